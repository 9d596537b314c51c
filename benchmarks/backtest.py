"""Bars a second of the backtest, beside the package `backtesting` and a bare numpy pass: `python benchmarks/backtest.py`.

Medians of several runs in one process on one core, after one that does not count; the signal changes side about every 22 bars. The peer comes with `pip install -e ".[bench]"`;
where it is missing it is named and left out. `--out FILE` appends the tables to a file.
"""
import argparse, contextlib, importlib.util, io, os, platform, sys, time, warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"): os.environ.setdefault(name, "1")
import numba, numpy as np, pandas as pd
from natron.backtest import backtest, bar_sums, performance, simulate_trades
from natron.candles import simulate_candles
from natron.config import BacktestConfig, Config
from common import table

SIZES = (10_000, 100_000, 1_000_000)
RULES = {"always in the market, one times the equity": BacktestConfig(risk=0, stop=0, target=0), "1 % at risk, stop 2 and target 3 ATR": BacktestConfig()}


def case(n):
    "Candles and a signal that changes side about every 22 bars, by an instrument's name."
    c = simulate_candles(n, seed=1); s = np.sin(np.arange(n)/7 + np.random.default_rng(0).normal(0, .2, n))
    return {"SIM": c}, {"SIM": pd.Series(np.where(np.abs(s) < .1, .1, s), c.index)}


def median(f, least=5, seconds=3.):
    "Median, least and most seconds of a call, after one that does not count."
    f(); took = []
    while len(took) < least or (sum(took) < seconds and len(took) < 30): start = time.perf_counter(); f(); took.append(time.perf_counter()-start)
    return float(np.median(took)), min(took), max(took)


def bare(candles, signals):
    "What no backtest can be faster than: the sign of the last signal times the bar's return, added up; no costs, no stops, no trades."
    c, s = candles["SIM"], signals["SIM"]
    return np.cumsum(np.sign(s.to_numpy()[:-1])*np.diff(np.log(c.close.to_numpy())))


def other(candles, signals):
    "The same always-in-the-market signal by `backtesting`; returns its number of trades."
    import backtesting
    s = signals["SIM"].to_numpy()
    class Same(backtesting.Strategy):
        def init(self): pass
        def next(self):
            side = s[len(self.data)-1]
            if self.position and self.position.is_long == (side > 0): return
            self.position.close(); (self.buy if side > 0 else self.sell)(size=round(self.equity/self.data.Close[-1]))
    return len(backtesting.Backtest(candles["SIM"].rename(columns=str.capitalize), Same, cash=1e9, margin=1/30, commission=lambda size, price: abs(size)*7e-5).run()._trades)


def scored(candles, signals, cfg):
    sums = bar_sums(simulate_trades(candles, signals, cfg))
    return performance(sums.sum(0), len(sums), 6000.)


def ours(sizes):
    rows = []
    for n in sizes:
        candles, signals = case(n); floor = median(lambda: bare(candles, signals))[0]
        for name, cfg in RULES.items():
            mid, low, high = median(lambda: simulate_trades(candles, signals, cfg)); full = median(lambda: scored(candles, signals, cfg))[0]
            rows.append((f"{n:,}", name, f"{len(simulate_trades(candles, signals, cfg).trades):,}", f"{mid:.3f} ({low:.3f} to {high:.3f})", f"{full:.3f}", f"{n/mid/1e6:.1f} M", f"{floor:.4f}"))
    return table(["bars", "rules", "trades", "seconds: trades and equity", "and figures", "bars a second", "bare numpy pass"], rows)


def peer(n):
    if not importlib.util.find_spec("backtesting"): return "The package `backtesting` is not installed."
    candles, signals = case(n); cfg = RULES["always in the market, one times the equity"]
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(): warnings.simplefilter("ignore"); trades = other(candles, signals); theirs = median(lambda: other(candles, signals), 3, 0.)[0]
    mine = median(lambda: simulate_trades(candles, signals, cfg))[0]
    return table(["bars", "its trades", "`backtesting`", "Natron", "faster by", "`backtesting` for 1,000,000 bars, at this rate"], [(f"{n:,}", f"{trades:,}", f"{theirs:.2f} s", f"{mine:.4f} s", f"{theirs/mine:.0f}", f"{theirs/n*1e6:.0f} s")])


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0]); p.add_argument("--sizes", type=int, nargs="+", default=SIZES); p.add_argument("--out", help="append the tables to this file")
    a = p.parse_args(); parts = []
    def show(text): print(text, flush=True); parts.append(text)
    show(f"## {' '.join(['python', 'benchmarks/backtest.py', *sys.argv[1:]])}\n\n{platform.processor() or platform.machine()}, one core of {os.cpu_count()}, Python {platform.python_version()}, numpy {np.__version__}, "
         f"pandas {pd.__version__}, numba {numba.__version__}\n")
    candles, signals = case(2000); start = time.perf_counter(); simulate_trades(candles, signals); first = time.perf_counter()-start
    show(f"{ours(a.sizes)}\n"); show(f"{peer(100_000)}\n")
    candles, signals = case(50_000); whole = median(lambda: backtest(candles, signals, Config()), 3, 0.)[0]
    show(f"First call in a new process: {first:.1f} s (once a machine more, to compile). The whole `backtest` of 50,000 bars, with 1,000 resamples and 100 shuffled signals: {whole:.1f} s.\n")
    if a.out:
        with open(a.out, "a") as f: f.write("\n".join(parts) + "\n")


if __name__ == "__main__": main()
