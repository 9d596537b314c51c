"""Runs an EA in the simulated terminal, and gives what it printed, traded and promised."""
import json, subprocess
from dataclasses import dataclass, field
from pathlib import Path

LIMIT_MS = 50      # most that one event of the EA may take: what it waits in socket calls, and its work by count


def write_candles(candles, path):
    "Candles by UTC time as the simulator reads them."
    seconds = candles.index.as_unit("s").asi8
    rows = zip(seconds, *(candles[k] for k in ("open", "high", "low", "close", "volume")))
    Path(path).write_text("".join(",".join(map(repr, map(float, r[1:]))).join([f"{r[0]},", "\n"]) for r in rows))
    return path


@dataclass
class Run:
    "What one run of the EA left."
    prints: list = field(default_factory=list)    # what it printed
    times: list = field(default_factory=list)     # and when, in seconds of UTC
    orders: list = field(default_factory=list)    # every order, with the broker's return code
    trades: list = field(default_factory=list)    # every position, or part of one, that ended
    equity: list = field(default_factory=list)    # at the close of each bar
    panel: str = ""                               # the chart's comment at the end
    drawn: list = field(default_factory=list)     # the chart's objects at the end
    summary: dict = field(default_factory=dict)
    errors: str = ""                              # of the sanitizers, and of the simulator's checks
    returncode: int = 0

    def said(self, text): return any(text in p for p in self.prints)

    @property
    def tally(self):
        "Bars answered, missed and waiting, stray answers, connections lost: the EA's own count."
        words = self.prints[-1].partition("; ")[2].split(", ")
        return dict(zip(("answered", "missed", "waiting", "strays", "drops"), (int(w.split()[0]) for w in words)))


def _collect(run, line):
    kind, _, rest = line.partition(" ")
    if kind not in "POTECDR" or not rest: return
    said = json.loads(rest)
    if kind == "P":
        run.times.append(said[0])
        run.prints.append(said[1])
    elif kind == "O": run.orders.append(said)
    elif kind == "T": run.trades.append(said)
    elif kind == "E": run.equity.append(said)
    elif kind == "C": run.panel = said
    elif kind == "D": run.drawn.append(said)
    else: run.summary = said


def start_terminal(program, candles, inputs=None, **settings):
    "The process; `settings` are the simulator's, `inputs` the EA's."
    plain = lambda v: int(v) if isinstance(v, bool) else v
    args = [f"{k}={plain(v)}" for k, v in dict(candles=candles, **settings).items()]
    args += [f"set:{k}={plain(v)}" for k, v in (inputs or {}).items()]
    return subprocess.Popen([str(program), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_terminal(program, candles, inputs=None, **settings):
    "Run to the end of the candles."
    process = start_terminal(program, candles, inputs, **settings)
    out, errors = process.communicate()
    run = Run(errors=errors, returncode=process.returncode)
    for line in out.splitlines(): _collect(run, line)
    return run


def broken_promises(run, bars):
    "What the EA promises whatever happens, and did not keep; an empty list is what is wanted."
    found, s = [], run.summary
    if run.errors: found.append(run.errors[:3000])
    if run.returncode: found.append(f"exit status {run.returncode}")
    if not s: return [*found, "the run left no summary"]
    if s["worst_ms"] > LIMIT_MS: found.append(f"an event took {s['worst_ms']:.0f} ms")
    if s["nul_bytes"]: found.append(f"{s['nul_bytes']} NUL bytes on the wire")
    if s["open_sockets"]: found.append(f"{s['open_sockets']} sockets are still open")
    if s["objects"] or s["timer"]: found.append("the chart's objects or the timer are left behind")
    tally = run.tally
    if tally["answered"] + tally["missed"] + tally["waiting"] != bars: found.append(f"{bars} bars, and {tally}")
    told = [p.split()[1] for p in run.prints if " buy " in p]
    if len(told) != len(set(told)): found.append("a bar was answered twice")
    entries = [o["bar"] for o in run.orders if o["what"] != "close" and o["code"] in (10008, 10009, 10010, 10012)]
    if len(entries) != len(set(entries)): found.append("a bar had two orders")
    if any(e["positions"] > 1 for e in run.equity): found.append("more than one position at a time")
    return found
