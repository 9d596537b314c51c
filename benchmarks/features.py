"""Rows a second of the features, beside TA-Lib in C, pandas-ta-classic, ta and plain pandas:
`python benchmarks/features.py`.

Speeds are medians, on simulated candles (or `--candles FILE`); calls that are compared are made in turn. Memory is the
peak of a process of its own, the first call's cost that of one process without any compiled kernel and of one after
it. The peers come with `pip install -e ".[bench]"`; one that is missing is named and left out. `--out FILE` appends
the tables to a file.
"""
import argparse, importlib.util, json, os, platform, re, subprocess, sys, tempfile, time, warnings
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"): os.environ.setdefault(name, "1")
import numba, numpy as np, pandas as pd, talib
from natron.candles import read_candles, simulate_candles
from natron.features import CONTEXT, FEATURES, compute_features
from common import cpu_name, save, table

SIZES = (10_000, 100_000, 1_000_000)


def candles_of(n, path):
    "The first `n` candles of a file, repeated where it is shorter, or simulated ones."
    if not path: return simulate_candles(n, seed=1)
    c = read_candles(path)
    c = pd.concat([c]*-(-n//len(c))).iloc[:n]
    return c.set_axis(pd.date_range("2000-01-01", periods=n, freq="h", tz="UTC", name="time"))


def medians(*calls, seconds=3., least=5):
    "Median seconds of each call, made in turn, after one of each that does not count."
    for f in calls: f()
    took = []
    while len(took) < least or (np.sum(took) < seconds*len(calls) and len(took) < 50):
        took.append([once(f) for f in calls])
    return [float(x) for x in np.median(took, axis=0)]


def median(f, seconds=3.): return medians(f, seconds=seconds)[0]


def once(f):
    start = time.perf_counter()
    f()
    return time.perf_counter()-start


def talib_calls(c):
    "TA-Lib's own C functions for the columns that it has; returns how many columns."
    o, h, l, k, v = (c[x].to_numpy() for x in ("open", "high", "low", "close", "volume"))
    t = talib
    out = ([t.SMA(k, n) for n in (5, 10, 20, 50)] + [t.EMA(k, n) for n in (5, 20, 50)]
           + [t.RSI(k, n) for n in (7, 14, 21)] + [t.ROC(k, n) for n in (5, 10)])
    out += [t.CCI(h, l, k, 20), *t.STOCHF(h, l, k, 14, 3), *t.MACD(k), t.ULTOSC(h, l, k), t.ATR(h, l, k, 14),
            t.ATR(h, l, k, 20), *t.BBANDS(k, 20), t.STDDEV(k, 20), t.STDDEV(k, 50)]
    out += [t.OBV(k, v), t.LINEARREG_SLOPE(v, 20), t.MFI(h, l, k, v, 14), t.ADOSC(h, l, k, v),
            t.CDLDOJI(o, h, l, k), t.CDLENGULFING(o, h, l, k), t.CDLHAMMER(o, h, l, k)]
    out += [t.ADX(h, l, k, 14), t.PLUS_DI(h, l, k, 14), t.MINUS_DI(h, l, k, 14), *t.AROON(h, l, 25),
            t.CORREL(k, np.arange(float(len(k))), 20), *(t.MAX(h, n) for n in (20, 50)),
            *(t.MIN(l, n) for n in (20, 50))]
    return len(out)


def pandas_columns(c):
    "As much of the catalogue as reads naturally in pandas."
    o, h, l, k, v = (c[x] for x in ("open", "high", "low", "close", "volume"))
    r = np.log(k).diff()
    d = k.diff()
    tr = pd.concat([h-l, (h-k.shift()).abs(), (l-k.shift()).abs()], axis=1).max(axis=1)
    wilder = lambda x, n: x.ewm(alpha=1/n, adjust=False).mean()
    ema = lambda n: k.ewm(span=n, adjust=False).mean()
    cols = ([k/k.rolling(n).mean()-1 for n in (5, 10, 20, 50)] + [k/ema(n)-1 for n in (5, 20, 50)]
            + [wilder(d.clip(lower=0), n)/wilder(d.abs(), n) for n in (7, 14, 21)])
    cols += ([np.log(k).diff(n) for n in (1, 5, 10, 20, 50)] + [r.rolling(n).std() for n in (20, 50)]
             + [wilder(tr, n)/k for n in (14, 20)] + [k.rolling(20).std()/k])
    cols += [(k-l.rolling(14).min())/(h.rolling(14).max()-l.rolling(14).min()), ema(12)-ema(26),
             (ema(12)-ema(26)).ewm(span=9, adjust=False).mean(), tr.rolling(5).mean()/tr.rolling(50).mean()]
    cols += ([h.rolling(n).max()/k-1 for n in (20, 50)] + [1-l.rolling(n).min()/k for n in (20, 50)]
             + [r.rolling(20).skew(), r.rolling(20).kurt(), (r-r.rolling(20).mean())/r.rolling(20).std()])
    cols += [r.rolling(20).corr(r.shift()), k.rolling(20).rank(pct=True), v/v.rolling(20).mean(),
             (v-v.rolling(20).mean())/v.rolling(20).std(), (v*k).rolling(20).sum()/v.rolling(20).sum()]
    cols += [np.sqrt((np.log(h/l)**2).rolling(20).mean()), (k-o)/(h-l), (k-l)/(h-l), (h-l)/k]
    return pd.concat(cols, axis=1).shape[1]


def classic_columns(c):
    "pandas-ta-classic's functions for the columns of the catalogue that it has, with TA-Lib switched on."
    import pandas_ta_classic as ta
    o, h, l, k, v, on = *(c[x] for x in ("open", "high", "low", "close", "volume")), dict(talib=True)
    out = ([ta.sma(k, n, **on) for n in (5, 10, 20, 50)] + [ta.ema(k, n, **on) for n in (5, 20, 50)]
           + [ta.rsi(k, n, **on) for n in (7, 14, 21)] + [ta.roc(k, n, **on) for n in (5, 10)])
    out += [ta.cci(h, l, k, 20, **on), ta.stochf(h, l, k, 14, 3, **on), ta.macd(k, **on), ta.uo(h, l, k, **on),
            ta.atr(h, l, k, 14, **on), ta.atr(h, l, k, 20, **on), ta.bbands(k, 20, **on)]
    out += [ta.kc(h, l, k, 20, 2), ta.stdev(k, 20, **on), ta.stdev(k, 50, **on), ta.obv(k, v, **on),
            ta.mfi(h, l, k, v, 14, **on), ta.adosc(h, l, k, v, **on), ta.pvt(k, v), ta.vwma(k, v, 20)]
    out += [ta.adx(h, l, k, 14, **on), ta.aroon(h, l, 25, **on), ta.skew(k, 20), ta.kurtosis(k, 20),
            ta.zscore(k, 20), ta.donchian(h, l, 20, 20), ta.donchian(h, l, 50, 50)]
    out += ([ta.log_return(k, n) for n in (1, 5, 10, 20, 50)]
            + [ta.slope(k, 5), ta.linreg(k, 20, **on), ta.true_range(h, l, k, **on),
               ta.cdl_pattern(o, h, l, k, name=["engulfing", "hammer", "doji"])])
    return pd.concat(out, axis=1).shape[1]


def ta_columns(c):
    import ta
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ta.add_all_ta_features(c.copy(), "open", "high", "low", "close", "volume").shape[1] - c.shape[1]


def child(*args, **env):
    "Run this file in a process of its own and read the JSON that it prints."
    run = subprocess.run([sys.executable, __file__, *map(str, args)], env=os.environ | env, capture_output=True,
                         text=True)
    if run.returncode: raise SystemExit(run.stderr)
    return json.loads(run.stdout.splitlines()[-1])


def peak(n):
    """Megabytes that a process of its own holds at most while it computes `n` rows, beyond what it held before,
    and altogether."""
    compute_features(candles_of(600, ""))
    c = np.exp(np.random.default_rng(0).normal(0, 1e-3, n).cumsum())
    d = pd.DataFrame(dict(open=c, high=c*1.001, low=c*0.999, close=c, volume=1.),
                     pd.date_range("2000-01-01", periods=n, freq="h", tz="UTC", name="time"))
    # of this program alone; ru_maxrss counts the parent's
    used = lambda: int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])/1024
    before = used()
    compute_features(d)
    print(json.dumps(dict(total=used(), own=used()-before)))


def cold():
    "Seconds of the first call, and of the first row of a stream, in this process."
    from natron.stream import FeatureStream
    c = simulate_candles(1100, seed=1)
    records = c.reset_index().to_dict("records")
    batch = once(lambda: compute_features(c[:600]))
    start = time.perf_counter()
    s = FeatureStream(c[:600])
    s.append(records[600])
    first = time.perf_counter()-start
    print(json.dumps(dict(batch=batch, stream=first)))


def stream_figures(path):
    """Microseconds of one candle through a stream and of the batch on the last 512, and how the stream differs from
    the batch over 5,000 bars."""
    from natron.features import compute_context, feature_array
    from natron.stream import FeatureStream
    c = candles_of(6000, path)
    records = c.reset_index().to_dict("records")
    s, rows, took = FeatureStream(c[:1000]), [], []
    for r in records[1000:]:
        start = time.perf_counter()
        rows.append(s.append(r))
        took.append(time.perf_counter()-start)
    want = compute_features(c).join(compute_context(c))
    away = np.abs(np.array(rows, float) - want[1000:].to_numpy())/want.std().to_numpy()    # (5000,F)
    one_sided = int((np.isnan(rows) != want[1000:].isna().to_numpy()).sum())
    differs = (f"Largest difference of the stream from the batch over 5,000 bars, {want.shape[1]} columns: "
               f"{np.nanmax(away):.1g} standard deviations; {one_sided} cells are known to one of them alone.")
    peek = median(lambda: s.peek(records[-1] | dict(time=records[-1]["time"] + pd.Timedelta("1h"))), 0.5)
    def last(): return compute_features(c[-CONTEXT:]).join(compute_context(c[-CONTEXT:]))
    def window(): return feature_array(c[-CONTEXT:], rows=96)
    return [("one candle, median", np.median(took)*1e6), ("one candle, 99 %", np.quantile(took, 0.99)*1e6),
            ("peek, median", peek*1e6), (f"last {CONTEXT} bars as a batch", median(last, 0.5)*1e6),
            ("the 96 rows of a window of them", median(window, 0.5)*1e6)], differs


def size_table(sizes, cores, path):
    "Rows a second by size, beside TA-Lib in C, and memory."
    rows, threads = [], sorted({1, cores})
    for n in sizes:
        c, ours = candles_of(n, path), {}
        had = talib_calls(c[:100])
        for k in threads:
            numba.set_num_threads(k)
            ours[k] = n/median(lambda: compute_features(c))
        floor, memory = n/median(lambda: talib_calls(c)), child("--peak", n)
        rows.append((f"{n:,}", *(f"{ours[k]/1e6:.2f} M" for k in threads), f"{ours[1]*len(FEATURES)/1e6:.0f} M",
                     f"{floor/1e6:.2f} M ({had} columns)", f"{floor*had/1e6:.0f} M",
                     f"{memory['own']:.0f} MB", f"{memory['total']:.0f} MB"))
    return table(["rows", *(f"{k} core{'s'*(k > 1)}" for k in threads), "values", "TA-Lib in C, what it has", "values",
                  "peak memory, own", "of the process"], rows)


def peer_table(path):
    "Others on one core, each in turn with Natron."
    numba.set_num_threads(1)
    rows = []
    for name, module, f, n in (("plain pandas", "pandas", pandas_columns, 100_000),
                               ("pandas-ta-classic, TA-Lib on", "pandas_ta_classic", classic_columns, 100_000),
                               ("ta.add_all_ta_features", "ta", ta_columns, 10_000)):
        if not importlib.util.find_spec(module):
            rows.append((name, f"{n:,}", "", "not installed", "", "", ""))
            continue
        c = candles_of(n, path)
        columns = f(c[:1000])
        per, us = (n/x for x in medians(lambda: f(c), lambda: compute_features(c)))
        rows.append((name, f"{n:,}", columns, f"{per:,.0f}", f"{us:,.0f}", f"{us/per:.1f}",
                     f"{us*len(FEATURES)/per/columns:.1f}"))
    return table(["", "rows", "columns", "its rows a second", "Natron's", "faster by", "by values"], rows)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--candles", default="", help="a candle file; without one, simulated candles")
    p.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    p.add_argument("--out", help="append the tables to this file")
    p.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    p.add_argument("--cold", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.peak: return peak(a.peak)
    if a.cold: return cold()

    cores, parts = numba.get_num_threads(), []
    def show(text):
        print(text, flush=True, end="\n\n")
        parts.append(text)

    show(f"{cpu_name()}, {cores} cores, Python {platform.python_version()}, "
         f"numpy {np.__version__}, numba {numba.__version__}, TA-Lib {talib.__version__}; "
         f"{Path(a.candles).name if a.candles else 'simulated candles'}")
    compute_features(candles_of(600, a.candles))
    show(f"Rows a second of all {len(FEATURES)} columns, and values a second on one core:\n\n"
         f"{size_table(a.sizes, cores, a.candles)}")
    show(f"On one core, in turn with others (Natron computes {len(FEATURES)} columns):\n\n{peer_table(a.candles)}")
    with tempfile.TemporaryDirectory() as folder:
        first, again = (child("--cold", NUMBA_CACHE_DIR=folder) for _ in range(2))
    numba.set_num_threads(1)
    figures, differs = stream_figures(a.candles)
    show(table(["live", "microseconds"], [(k, f"{x:.0f}") for k, x in figures]) + f"\n\n{differs}")
    show(f"First call in a new process: {again['batch']:.2f} s (stream {again['stream']:.2f} s); "
         f"with nothing compiled yet, once a machine: {first['batch']:.0f} s (stream {first['stream']:.0f} s).")
    save(a.out, parts)


if __name__ == "__main__": main()
