"What the benchmarks share."
import os, platform, shlex, sys, time
from pathlib import Path

from natron.candles import read_candles, series_name
from natron.core import NatronError


def table(head, rows):
    "A table in Markdown."
    return "\n".join("| " + " | ".join(map(str, r)) + " |" for r in (head, ["---"]*len(head), *rows))


def read_series(files, tz="UTC"):
    "The candles of each file, by the name of its series."
    series = {series_name(f): f for f in files}
    if len(series) < len(files):
        raise NatronError("two candle files have one name; rename one, as a series is named after its file: "
                          + ", ".join(map(str, files)))
    return {name: read_candles(f, tz) for name, f in series.items()}


def span_of(series):
    "The names of the series, their bars, and their first and last day."
    first, last = min(c.index[0] for c in series.values()), max(c.index[-1] for c in series.values())
    return f"{', '.join(series)}: {sum(map(len, series.values())):,} bars, {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def cpu_name():
    "The processor, as the system names it."
    info = Path("/proc/cpuinfo")
    names = ([l.split(":")[1].strip() for l in info.read_text().splitlines() if l.startswith("model name")]
             if info.exists() else [])
    return names[0] if names else platform.processor() or platform.machine()


def command():
    "The command as it ran; of files that are there the names alone."
    given = [Path(x).name if os.path.exists(x) else x for x in sys.argv[1:]]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given])


def cpu_times(f, times):
    "Processor seconds of so many calls, after one that does not count."
    f()
    took = []
    for _ in range(times):
        start = time.process_time()
        f()
        took.append(time.process_time()-start)
    return took


def check_kept(path, made_of, asked):
    "End where a kept file was made of something else than is asked for."
    if made_of != asked: raise SystemExit(f"{path} was made with other settings or candles; keep these elsewhere")


def save(path, text):
    "Append the parts of a report to a file, below the day and the command; without a path nothing is written."
    if not path: return
    with open(path, "a") as f:
        f.write("\n\n".join(["", f"## {time.strftime('%Y-%m-%d')}, `{command()}`", *text]) + "\n")
