"""Honest functions that look like leaks:
they keep things, write files, know the clock, and read nothing but the past.
"""
import functools, hashlib, tempfile
from pathlib import Path

import numpy as np, pandas as pd
from numba import njit

MEMO = {}


def _returns(c): return np.log(c.close).diff()


def rolling_score(c):
    "The last return in units of its last hundred."
    x = _returns(c)
    return (x - x.rolling(100).mean())/x.rolling(100).std()


def slow_average(c):
    "An exponential average, shown when it has one."
    return c.close/c.close.ewm(span=20, min_periods=200).mean() - 1


def expanding_score(c):
    "The last return in units of all that were before; needs a long history, and warms up."
    x = _returns(c)
    return (x - x.expanding(100).mean())/x.expanding(100).std()


def confirmed_swing(c):
    "A swing high of eleven bars, told five bars later."
    top = c.high.rolling(11).max()
    return (c.high.shift(5) == top).where(top.notna()).astype(float)


@njit(cache=True)
def _runs(x):
    out = np.zeros(len(x))
    for i in range(1, len(x)): out[i] = out[i-1] + 1 if x[i] > x[i-1] else 0
    return out


def rising_run(c):
    "Bars since the close last fell, compiled, at most fifty."
    return pd.Series(np.minimum(_runs(c.close.to_numpy()), 50.), c.index).where(np.arange(len(c)) >= 50)


def true_range(c):
    "The average true range over fourteen bars, of the price."
    last = c.close.shift()
    wide = np.maximum(c.high, last) - np.minimum(c.low, last)
    return wide.rolling(14).mean()/c.close


def session(c):
    "Where New York's day stands."
    return pd.Series(np.cos(c.index.tz_convert("America/New_York").hour/12*np.pi), c.index)


def yesterday(c):
    "The close against that of the last whole day."
    day = c.close.resample("1D").last().dropna().shift()
    known = day.reindex(c.index, method="ffill")
    return c.close/known - 1


def remembered(c):
    "Computed once for the same candles, looked up by their content ever after."
    key = hashlib.sha256(c.to_numpy().tobytes() + c.index.asi8.tobytes()).digest()
    if key not in MEMO: MEMO[key] = rolling_score(c)
    return MEMO[key]


@functools.lru_cache(maxsize=None)
def _weights(n): return np.exp(-np.arange(n)/10)/np.exp(-np.arange(n)/10).sum()


def weighted(c):
    "A weighted sum of the last forty returns; the weights are cached."
    return pd.Series(np.convolve(_returns(c), _weights(40))[:len(c)], c.index)


def remembered_on_disk(c):
    "The same on disk, as `joblib` does it: a file by the content of the candles."
    key = hashlib.sha256(c.to_numpy().tobytes() + c.index.asi8.tobytes()).hexdigest()[:16]
    path = Path(tempfile.gettempdir())/f"natron_honest_{key}.npy"
    if not path.exists(): np.save(path, rolling_score(c).to_numpy())
    return pd.Series(np.load(path), c.index)


def in_single_precision(c):
    "A chain of averages in float32."
    x = _returns(c).astype("float32")
    return (x.rolling(20).mean()/x.rolling(20).std()).astype("float32")


def by_spectrum(c):
    "An average of the last five returns by a Fourier transform, whose last digits depend on its length."
    x = np.fft.rfft(_returns(c).fillna(0), 2*len(c) + 8)
    k = np.fft.rfft(np.ones(5)/5, 2*len(c) + 8)
    return pd.Series(np.fft.irfft(x*k, 2*len(c) + 8)[:len(c)], c.index).where(np.arange(len(c)) > 4)


class _Counter:
    def __init__(self): self.last, self.up = np.nan, 0
    def append(self, close):
        self.up = self.up + 1 if close > self.last else 0
        self.last = close
        return float(min(self.up, 20))


def as_a_stream(c):
    "Bar after bar, with what is carried along."
    s = _Counter()
    return pd.Series([s.append(x) for x in c.close], c.index).where(np.arange(len(c)) >= 20)
