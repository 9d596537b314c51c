"""Twelve ways in which the future gets into a feature, each as somebody would write it, and one honest control.

In the project's folder, `natron audit nbs.tutorials.planted_leaks:centred_swing --candles data/eurusd_h1_2017.csv.gz`
puts the first to the test.
"""
import numpy as np, pandas as pd


def _returns(c): return np.log(c.close).diff()


def centred_swing(c):
    "A swing high, marked on its own bar; it takes five more to be one."
    return (c.high == c.high.rolling(11, center=True).max()).astype(float)


def next_return(c):
    "A sign that was mistaken: `shift(-1)` brings tomorrow, not yesterday."
    return _returns(c).shift(-1)


def back_fill(c):
    "The warm-up of an average, filled from behind."
    return (c.close/c.close.rolling(20).mean() - 1).bfill()


def whole_sample_quantile(c):
    "Large is what is large among all returns of the file."
    r = _returns(c).abs()
    return (r > r.quantile(.9)).astype(float)


def whole_sample_zscore(c):
    "Scaled before it was split."
    r = _returns(c)
    return (r - r.mean())/r.std()


def resample_labelled_left(c):
    "The close of each four hours, told from their first hour on."
    return c.close.resample("4h", label="left").last().reindex(c.index, method="ffill")/c.close - 1


def last_bars_profile(c):
    "The price with most volume in the last 20 bars of the file, on every row."
    counts, edges = np.histogram(c.close[-20:], 10, weights=c.volume[-20:])
    return c.close/edges[counts.argmax()] - 1


def fft_smoothing(c):
    "The slope of the price without its high frequencies, of which all bars decide."
    x = np.fft.rfft(np.log(c.close))
    x[len(x)//20:] = 0
    return pd.Series(np.fft.irfft(x, len(c)), c.index).diff()


def next_open(c):
    "The price at which one would have entered."
    return c.open.shift(-1)/c.close - 1


def centred_average(c):
    "One bar behind, one bar ahead."
    return c.close/c.close.rolling(3, center=True).mean() - 1


def central_difference(c):
    "What numpy calls a gradient: half of it lies in the next bar."
    return pd.Series(np.gradient(np.log(c.close)), c.index)


def interpolated_gaps(c):
    "A line through missing prices ends at the next one that is known."
    return c.close/c.close.where(c.index.hour != 12).interpolate() - 1


def control(c):
    "Nothing but the past: the close against the average of its last 20."
    return c.close/c.close.rolling(20).mean() - 1
