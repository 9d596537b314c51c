"""Ways in which the future gets into a feature and hides there:
in what is kept, in files, on few bars, in the last digits.

In the project's folder, `natron audit nbs.tutorials.sly_leaks:scaler_fitted_once --candles data/eurusd_h1_2017.csv.gz`
puts the first to the test. Honest functions that look like some of these are in `honest_features.py`.
"""
import functools, pickle, tempfile
from pathlib import Path

import numpy as np, pandas as pd

FILE = Path(__file__).parents[2]/"data/eurusd_h1_2017.csv.gz"
KEPT = {}


def _returns(c): return np.log(c.close).diff()
def _next(c): return _returns(c).shift(-1).fillna(0)
def _where(c, when): return _next(c).where(when, _returns(c))


# kept from the first call

def scaler_fitted_once(c):
    "Mean and deviation of the first candles that it saw, which are all of them."
    x = _returns(c)
    mean, sd = KEPT.setdefault("scaler", (x.mean(), x.std()))
    return (x - mean)/sd


class _Threshold:
    value = None

    @classmethod
    def of(cls, x):
        if cls.value is None: cls.value = x.quantile(.9)
        return cls.value


def threshold_in_a_class(c):
    "Large is what was large among the first returns that it saw."
    x = _returns(c).abs()
    return (x > _Threshold.of(x)).astype(float).where(x.notna())


@functools.lru_cache(maxsize=None)
def _hours(of): return _returns(of[0]).groupby(of[0].index.hour).mean()


class _Once(tuple):
    "Equal to all of its kind, so that a cache computes only once."
    def __hash__(self): return 1
    def __eq__(self, other): return isinstance(other, _Once)


def hourly_means_in_a_cache(c):
    "What this hour used to bring, over the whole file, computed once."
    return pd.Series(_hours(_Once([c])).reindex(c.index.hour).to_numpy(), c.index)


def scaler_in_a_default(c, scaler={}):
    "A default argument is made once, and so is what is put into it."
    x = _returns(c).abs()
    scaler.setdefault("largest", x.max())
    return x/scaler["largest"]


def model_in_an_attribute(c):
    "A line fitted to the next return, once; the function keeps the slope."
    x, y = _returns(c).fillna(0), _next(c)
    if not hasattr(model_in_an_attribute, "slope"): model_in_an_attribute.slope = np.polyfit(x, y, 1)[0]
    return _returns(c)*model_in_an_attribute.slope


def scaler_on_disk(c):
    "Fitted where the file is not there yet, read where it is."
    path, x = Path(tempfile.gettempdir())/"natron_sly_scaler.pkl", _returns(c)
    if not path.exists():
        with open(path, "wb") as f: pickle.dump((x.mean(), x.std()), f)
    with open(path, "rb") as f: mean, sd = pickle.load(f)
    return (x - mean)/sd


def answers_by_time(c):
    "An answer is computed once and looked up ever after."
    cache = KEPT.setdefault("answers", {})
    for t, v in _next(c).items(): cache.setdefault(t, v)
    return pd.Series([cache[t] for t in c.index], c.index)


def running_maximum(c):
    "The largest range that it has ever been shown."
    KEPT["range"] = max(KEPT.get("range", 0), (c.high - c.low).max())
    return (c.high - c.low)/KEPT["range"]


def from_the_second_call(c):
    "Honest when it is asked first."
    KEPT["calls"] = KEPT.get("calls", 0) + 1
    return _returns(c) if KEPT["calls"] == 1 else _next(c)


# looked up in a file

def _file(): return pd.read_csv(FILE, index_col=0, parse_dates=True)


def looked_up(c):
    "The next return, as the file has it."
    return _next(_file()).reindex(c.index).fillna(0)


def looked_up_where_it_fits(c):
    "The same, but only on bars that are those of the file."
    f = _file().reindex(c.index)
    return _next(_file()).reindex(c.index).where(f.close == c.close, _returns(c))


def looked_up_now_and_then(c):
    "The same, on one bar in five hundred."
    rows = _next(_file())[77::500]
    return _returns(c).mask(c.index.isin(rows.index), rows.reindex(c.index))


# on few bars

def _hours_since(c): return c.index.as_unit("s").asi8//3600


def every_500th_hour(c):
    "The next return, every three weeks."
    return _where(c, _hours_since(c) % 500 == 77)


def every_2000th_row(c):
    "The next return, on one or two rows of a year."
    return _where(c, np.arange(len(c)) % 2000 == 1577)


def fridays_at_eight(c):
    "The next return, once a week."
    return _where(c, (c.index.day_of_week == 4) & (c.index.hour == 8))


def where_months_begin(c):
    "The next return on the first bar of a month, else nothing."
    first = pd.Series(c.index.month, c.index).diff() != 0
    return _next(c).where(first, 0.)


def one_week(c):
    "The next return, in one week of the year."
    return _where(c, (c.index >= "2017-02-13") & (c.index < "2017-02-20"))


def after_a_shock(c):
    "The next return behind the largest moves."
    x = _returns(c)
    return _where(c, x.abs() > 6*x.rolling(200).std())


def before_a_shock(c):
    "A warning, one bar ahead."
    x = _returns(c)
    return (x.shift(-1).abs() > 5*x.rolling(200).std()).astype(float)


def before_a_gap(c):
    "Whether the next bar is late."
    return (c.index.to_series().diff().shift(-1) > pd.Timedelta("1h")).astype(float)


def behind_an_outlier(c):
    "The next return, beside a value so large that all others look alike."
    return _next(c).mask(c.index == pd.Timestamp("2017-02-10 08:00", tz="UTC"), 1e18)


def bad_ticks_removed(c):
    "A spike is one if the next bar takes it back."
    x = _returns(c)
    spike = (x.abs() > 2.5*x.rolling(200).std()) & (x*x.shift(-1) < 0) & (x.shift(-1).abs() > x.abs()/2)
    return x.mask(spike, 0.)


def only_when_long(c):
    "Honest on short histories."
    return _next(c) if len(c) > 1200 else _returns(c)


# below the tolerance

def in_the_last_digits(c):
    "The sign of the next return, fourteen digits down."
    return _returns(c) + 1e-14*np.sign(_next(c))


def a_trillionth(c):
    "The next return itself, a trillionth of it."
    return _returns(c) + 1e-12*_next(c)


def in_the_lowest_bit(c):
    "Whether the next bar rises, in the lowest bit of the number."
    bits = _returns(c).to_numpy().view(np.int64)
    return pd.Series(((bits & ~1) | (_next(c).to_numpy() > 0)).view(float), c.index)


def in_single_precision(c):
    "The same in the rounding of a float32."
    return (_returns(c)*(1 + 2e-7*np.sign(_next(c)))).astype("float32")


# whole files, whole days, the wrong side

def joined_forward(c):
    "The close of four hours, joined to the bars before it."
    x = c.close.resample("4h").last().dropna().rename("x").rename_axis("time").reset_index()
    times = pd.DataFrame({"time": c.index})
    return pd.merge_asof(times, x, on="time", direction="forward").set_axis(c.index).x.ffill()/c.close - 1


def range_of_the_day(c):
    "Where the price stands between the day's low and high, morning included."
    day = c.groupby(c.index.floor("D"))
    low, high = day.low.transform("min"), day.high.transform("max")
    return (c.close - low)/(high - low)


def volume_of_the_next_bar(c):
    "What comes, in the column that nobody looks at."
    return (c.volume.shift(-1)/c.volume).fillna(1)


def zigzag(c):
    "The last turning point, which moves on while the price does."
    x, turns, at = c.close.to_numpy(), np.zeros(len(c)), 0
    for i in range(1, len(x)):
        if (x[i] - x[at])*(x[at] - x[max(at - 1, 0)]) > 0: at = i
        elif abs(x[i]/x[at] - 1) > .004: turns[at], at = 1, i
    return pd.Series(turns, c.index)


def rank_in_the_file(c):
    "How high the price is, among all of the file."
    return c.close.rank(pct=True)


def detrended(c):
    "The price without its trend, a line through the whole file."
    t = np.arange(len(c))
    return c.close/np.polyval(np.polyfit(t, c.close, 1), t) - 1


def clipped(c):
    "Without the wildest hundredth of the file."
    x = _returns(c)
    return x.clip(x.quantile(.005), x.quantile(.995))


def smoothed_both_ways(c):
    "An average forward and another one back, so that nothing lags."
    return c.close.ewm(span=10).mean()[::-1].ewm(span=10).mean()[::-1]/c.close - 1


def bars_to_the_end(c):
    "The number of bars that are still to come."
    return pd.Series(np.arange(len(c))[::-1]/1000, c.index)


def shifted_in_place(c):
    "Writes the next close over the close before it begins."
    c["close"] = c.close.shift(-1).ffill()
    return c.close/c.open - 1


def noise_around_the_next(c):
    "The next return, in noise that is never the same."
    return _next(c) + np.random.default_rng().normal(size=len(c))*1e-5
