"""How fast the torch indicators are, beside TA-Lib called symbol by symbol in the same run.

    python benchmarks/indicators.py [--symbols 200] [--bars 10000] [--runs 7] [--out benchmarks/results/indicators.md]

Simulated candles; needs no file. Million bars (of all symbols) a second, medians of several runs, values and
crossings; TA-Lib gives the same values without crossings. A GPU is measured by `benchmarks/gpu.py`. Writes nothing
unless told where. On a CPU with other work on it, OMP_WAIT_POLICY=PASSIVE keeps threads from spinning while they wait
for one that is not running.
"""
import argparse, ctypes, os, platform, statistics, time
from pathlib import Path
import numpy as np, talib, torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from natron.candles import simulate_candles
from natron.indicators import ADX, ATR, CCI, EMA, RSI, WaveTrend, stack_candles
from common import cpu_name, save, table

OURS = {"EMA 20": EMA(20), "RSI 14": RSI(14), "ATR 14 and stops": ATR(14), "ADX, +DI, -DI 14": ADX(14),
        "CCI 20": CCI(20), "WaveTrend 10, 21": WaveTrend()}
TARGET = (2000, 10_000, 0.050)


def talib_wavetrend(h, l, c):
    price = (h+l+c)/3
    gap = price - talib.EMA(price, 10)
    wt1 = talib.EMA(gap/(0.015*talib.EMA(np.abs(gap), 10)), 21)
    return wt1, talib.SMA(wt1, 4)


THEIRS = dict(zip(OURS, (
    lambda h, l, c: talib.EMA(c, 20),
    lambda h, l, c: talib.RSI(c, 14),
    lambda h, l, c: (talib.ATR(h, l, c, 14), talib.MAX(h, 14), talib.MIN(l, 14)),
    lambda h, l, c: (talib.ADX(h, l, c, 14), talib.PLUS_DI(h, l, c, 14), talib.MINUS_DI(h, l, c, 14)),
    lambda h, l, c: talib.CCI(h, l, c, 20),
    talib_wavetrend)))


def market(symbols, bars, dtype):
    "Twenty simulated markets, repeated at other prices: (symbols, bars) tensors."
    base = stack_candles([simulate_candles(bars, seed=s) for s in range(min(20, symbols))], torch.float64)
    factor = torch.linspace(0.5, 200, symbols, dtype=torch.float64)[:, None]
    rows = torch.arange(symbols) % len(base["close"])
    return {k: (base[k][rows]*factor).to(dtype) for k in ("high", "low", "close")}


def everything(candles): return [f(candles) for f in OURS.values()]


def seconds(f, runs):
    "Median time of a call, after one that warms up."
    times = []
    for _ in range(runs+1):
        start = time.perf_counter()
        f()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def peak_rss(f):
    """Bytes by which a call raises the process's memory at most;
    NaN where the system does not say (it takes Linux with glibc)."""
    libc, status = ctypes.CDLL(None), Path("/proc/self/status")
    if not (status.exists() and hasattr(libc, "malloc_trim")): return float("nan")
    def read(key): return int(status.read_text().split(key+":")[1].split()[0])*1024
    libc.malloc_trim(0)                             # what earlier calls have left unused goes back to the system
    Path("/proc/self/clear_refs").write_text("5")   # the peak starts anew
    before = read("VmRSS")
    f()
    return read("VmHWM") - before


class Traffic(TorchDispatchMode):
    "Counts the kernels that run, and the bytes that they read and write; overlapping views of one array count once."
    def __init__(self):
        super().__init__()
        self.kernels = self.bytes = 0

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = op(*args, **kwargs)
        if op.is_view or any(k in op.name() for k in ("empty", "new_", "detach", "scalar")): return out
        size = lambda xs: sum({x.untyped_storage().data_ptr(): x.numel()*x.element_size()
                               for x in tree_leaves(xs) if isinstance(x, torch.Tensor)}.values())
        self.kernels += 1
        self.bytes += size((args, {k: v for k, v in kwargs.items() if k != "out"})) + size(out)
        return out


def traffic(f, symbols, bars, dtype):
    "Kernels of a call, and bytes a bar: that they move, and that must be moved at least (each input and output once)."
    candles = market(symbols, bars, dtype)
    with Traffic() as t: out = f(candles)
    outs = out if isinstance(out, list) else [out]
    least = sum(x.numel()*x.element_size() for x in tree_leaves([candles, outs]))
    return t.kernels, t.bytes/(symbols*bars), least/(symbols*bars)


def bandwidth(runs):
    "Bytes a second that a copy reads and writes."
    x = torch.ones(2**25)
    y = torch.empty_like(x)
    return 2*x.numel()*x.element_size()/seconds(lambda: y.copy_(x), runs)


def cpu_columns(args):
    "Title -> seconds by row, and the peak memory of all six, for TA-Lib and for each type and number of threads."
    columns, most = {}, torch.get_num_threads()
    candles = market(args.symbols, args.bars, torch.float64)
    rows = [tuple(x[i].numpy() for x in candles.values()) for i in range(args.symbols)]
    def loop(f): return [f(*r) for r in rows]
    def all_of_them(): return [loop(f) for f in THEIRS.values()]
    columns["TA-Lib, 1 thread"] = ({k: seconds(lambda: loop(f), args.runs) for k, f in THEIRS.items()}
                                   | {"all six": seconds(all_of_them, args.runs), "peak": peak_rss(all_of_them)})
    for threads in dict.fromkeys((1, most)):
        torch.set_num_threads(threads)
        for dtype in (torch.float64, torch.float32):
            x = {k: v.to(dtype) for k, v in candles.items()}
            columns[f"{str(dtype)[6:]}, {threads} thread{'s'*(threads > 1)}"] = (
                {k: seconds(lambda: f(x), args.runs) for k, f in OURS.items()}
                | {"all six": seconds(lambda: everything(x), args.runs), "peak": peak_rss(lambda: everything(x))})
    return columns


def speeds(columns, bars):
    "A table: million bars a second by row and column; peak memory below."
    rows = [(row, *(f"{bars/c[row]/1e6:,.0f}" for c in columns.values())) for row in (*OURS, "all six")]
    peaks = ("peak memory of all six, MB", *(f"{c['peak']/1e6:,.0f}" for c in columns.values()))
    return table(["million bars a second", *columns], [*rows, peaks])


def busy(): return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def report(args):
    "What was measured where, the table, and what it means for a GPU."
    load, policy = busy(), "".join(f"{k}={v}, " for k, v in os.environ.items() if k.startswith("OMP_"))
    columns = cpu_columns(args)
    kernels, moved, least = traffic(everything, 4, args.bars, torch.float32)
    notes = [f"All six in float32: {kernels:,} kernels, which move {moved:,.0f} bytes a bar; "
             f"each input and output once is {least:.0f}."]
    n = TARGET[0]*TARGET[1]
    notes.append(f"The target of a GPU, 2,000 x 10,000 in 50 ms: the kernels move {n*moved/1e9:.0f} GB, "
                 f"so it asks for {n*moved/TARGET[2]/1e12:.1f} TB/s.")
    notes.append(f"CPU copy bandwidth: {bandwidth(args.runs)/1e9:.0f} GB/s.")
    about = (f"{cpu_name()}, {torch.get_num_threads()} threads; {policy}"
             f"Python {platform.python_version()}, torch {torch.__version__}, TA-Lib {talib.__version__}; "
             f"{args.symbols:,} x {args.bars:,} on the CPU, medians of {args.runs} runs. "
             f"Load of the machine before: {load}.")
    return [about, speeds(columns, args.symbols*args.bars), "\n".join(f"- {x}" for x in notes)]


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--symbols", type=int, default=200)
    p.add_argument("--bars", type=int, default=10_000)
    p.add_argument("--runs", type=int, default=7)
    p.add_argument("--out", type=Path, help="append the table to this file")
    args = p.parse_args()
    text = report(args)
    print(*text, sep="\n\n")
    save(args.out, text)
