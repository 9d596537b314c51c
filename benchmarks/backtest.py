"""Bars a second of the backtest, beside the package `backtesting` and a bare numpy pass:
`python benchmarks/backtest.py`.

Medians of several runs in one process on one core, after one that does not count; the signal changes side about every
12 bars. The peer comes with `pip install -e ".[bench]"`; where it is missing it is named and left out. `--out FILE`
appends the tables to a file.

With `--candles FILE...` instead: stops by ATR and by forecast on the same random entries of these series' test parts,
by the rolling regression `har_hour` of `natron.range_scores`, whose paths are those of the validation parts.
(`natron backtest --entries random` makes the comparison with a model.)
"""
import argparse, contextlib, importlib.util, io, os, platform, time, warnings

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"): os.environ.setdefault(name, "1")
import numba, numpy as np, pandas as pd
from natron.backtest import RangeForecasts, backtest, bar_sums, performance, simulate_trades
from natron.candles import simulate_candles
from natron.config import BacktestConfig, Config, DataConfig, load_config
from natron.random_entries import compare_stops
from natron.range_scores import RANGE_FORECASTERS, market
from natron.ranges import forecast_sd, pool, scenarios_from
from natron.splits import split_series
from natron.tasks import HORIZONS
from common import cpu_name, read_series, save, table

BARS_A_YEAR = 6000.                                  # hourly ones; weekends have none
SIZES = (10_000, 100_000, 1_000_000)
RULES = {"always in the market, one times the equity": BacktestConfig(risk=0, stop=0, target=0),
         "1 % at risk, stop 2 and target 3 ATR": BacktestConfig()}


def case(n):
    "Candles and a signal that changes side about every 12 bars, by an instrument's name."
    c = simulate_candles(n, seed=1)
    s = np.sin(np.arange(n)/7 + np.random.default_rng(0).normal(0, .2, n))
    return {"SIM": c}, {"SIM": pd.Series(np.where(np.abs(s) < .1, .1, s), c.index)}


def median(f, least=5, seconds=3.):
    "Median, least and most seconds of a call, after one that does not count."
    f()
    took = []
    while len(took) < least or (sum(took) < seconds and len(took) < 30):
        start = time.perf_counter()
        f()
        took.append(time.perf_counter()-start)
    return float(np.median(took)), min(took), max(took)


def bare(candles, signals):
    """What no backtest can be faster than: the sign of the last signal times the bar's return, added up;
    no costs, no stops, no trades."""
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
            self.position.close()
            (self.buy if side > 0 else self.sell)(size=round(self.equity/self.data.Close[-1]))
    return len(backtesting.Backtest(candles["SIM"].rename(columns=str.capitalize), Same, cash=1e9, margin=1/30,
                                    commission=lambda size, price: abs(size)*7e-5).run()._trades)


def scored(candles, signals, cfg):
    "Trades, equity and all figures."
    sums = bar_sums(simulate_trades(candles, signals, cfg))
    return performance(sums.sum(0), len(sums), BARS_A_YEAR)


def ours(sizes):
    "A row a size and rule: seconds, beside those of a bare pass."
    rows = []
    for n in sizes:
        candles, signals = case(n)
        floor = median(lambda: bare(candles, signals))[0]
        for name, cfg in RULES.items():
            mid, low, high = median(lambda: simulate_trades(candles, signals, cfg))
            full = median(lambda: scored(candles, signals, cfg))[0]
            rows.append((f"{n:,}", name, f"{len(simulate_trades(candles, signals, cfg).trades):,}",
                         f"{mid:.3f} ({low:.3f} to {high:.3f})", f"{full:.3f}", f"{n/mid/1e6:.1f} M", f"{floor:.4f}"))
    return table(["bars", "rules", "trades", "seconds: trades and equity", "and figures", "bars a second",
                  "bare numpy pass"], rows)


def peer(n):
    "Natron beside `backtesting`, with the same signal."
    if not importlib.util.find_spec("backtesting"): return "The package `backtesting` is not installed."
    candles, signals = case(n)
    cfg = RULES["always in the market, one times the equity"]
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trades = other(candles, signals)
        theirs = median(lambda: other(candles, signals), 3, 0.)[0]
    mine = median(lambda: simulate_trades(candles, signals, cfg))[0]
    return table(["bars", "its trades", "`backtesting`", "Natron", "faster by",
                  "`backtesting` for 1,000,000 bars, at this rate"],
                 [(f"{n:,}", f"{trades:,}", f"{theirs:.2f} s", f"{mine:.4f} s", f"{theirs/mine:.0f}",
                   f"{theirs/n*1e6:.0f} s")])


def by_forecast(n):
    "Seconds of stops and sizes by forecast deviations, where the forecasts are there."
    candles, signals = case(n)
    sd = RangeForecasts({"SIM": pd.DataFrame(.001, candles["SIM"].index, range(HORIZONS[-1]))})
    cfg = BacktestConfig(unit="range", stop=.6, target=1, size="forecast")
    return median(lambda: simulate_trades(candles, signals, cfg, None, sd))[0]


def library(candles, split, sd, paths):
    "Paths of the validation part, evenly spread."
    rows = np.arange(split.validation.start, split.validation.stop-HORIZONS[-1])
    rows = rows[np.isfinite(sd[rows]).all(1)]
    rows = rows[np.unique(np.linspace(0, len(rows)-1, paths).astype(int))]
    return scenarios_from(candles, rows, sd[rows])


def entries(files):
    "Stops by ATR and by forecast on random entries, a table a horizon."
    candles = read_series(files)
    splits = dict(zip(candles, split_series([c.index for c in candles.values()], DataConfig(), HORIZONS[-1])))
    sd = {n: forecast_sd(RANGE_FORECASTERS["har_hour"](market(c, splits[n]))) for n, c in candles.items()}
    known = RangeForecasts({n: pd.DataFrame(sd[n], c.index)[splits[n].test] for n, c in candles.items()},
                           pool(*(library(c, splits[n], sd[n], 2000//len(candles)) for n, c in candles.items())))
    for h in (6, 12, 24):
        found = compare_stops(candles, known, load_config(**{"backtest.horizon": h}))
        shown = found.shown()
        hours = found.by_hour()
        away = {"by ATR": hours.atr-hours.entries.mul(hours.atr).sum()/hours.entries.sum(),
                "by forecast": hours.forecast-hours.announced}
        rows = ([(k, *r) for k, r in shown.iterrows()]
                + [("mean gap by hour", *(f"{x.abs().mean():.1%}" for x in away.values()), "")])
        yield f"Horizon {h} bars\n\n{table(['', *shown], rows)}\n\n{found.notes()[0]}\n\n{found.verdict}"


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    p.add_argument("--out", help="append the tables to this file")
    p.add_argument("--candles", nargs="+", help="compare stops on random entries of these files instead")
    a = p.parse_args()

    parts = []
    def show(text):
        print(text, flush=True, end="\n\n")
        parts.append(text)

    show(f"{cpu_name()}, one core of {os.cpu_count()}, "
         f"Python {platform.python_version()}, numpy {np.__version__}, "
         f"pandas {pd.__version__}, numba {numba.__version__}")
    if a.candles:
        for text in entries(a.candles): show(text)
        return save(a.out, parts)
    candles, signals = case(2000)
    start = time.perf_counter()
    simulate_trades(candles, signals)
    first = time.perf_counter()-start
    show(ours(a.sizes))
    show(peer(100_000))
    show(f"Stops and sizes by forecast, 100,000 bars: {by_forecast(100_000):.3f} s.")
    candles, signals = case(50_000)
    whole = median(lambda: backtest(candles, signals, Config()), 3, 0.)[0]
    show(f"First call in a new process: {first:.1f} s (once a machine more, to compile). "
         f"The whole `backtest` of 50,000 bars, with 1,000 resamples and 100 permuted signals: {whole:.1f} s.")
    save(a.out, parts)


if __name__ == "__main__": main()
