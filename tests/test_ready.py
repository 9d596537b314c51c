"The model that comes with Natron: it is what its card says, and it says where it is out of its depth."
import re
from pathlib import Path
import numpy as np, pandas as pd, pytest
from natron.bundle import BundleError
from natron.candles import sample_candles
from natron.predictor import load_predictor

root = Path(__file__).resolve().parent.parent
FILE, CARD = root/"data/natron_fx.pt", (root/"data/natron_fx.md").read_text()


@pytest.fixture(scope="module")
def model(): return load_predictor(FILE)


def test_its_file_is_small_and_ends_before_its_cut_off(model):
    b = model.bundle
    assert FILE.stat().st_size < 10e6
    assert b.config.data.until == "2021-01-01" and b.fit_span["known"] < "2021"
    assert list(b.fit_span["series"]) == ["AUDUSD", "EURJPY", "GBPUSD", "USDCHF", "USDJPY", "XAUUSD"]


def test_its_card_names_it(model):
    assert model.bundle.sha256 in CARD
    assert f"{pd.Timestamp(model.bundle.fit_span['validation'][1]):%Y-%m-%d}" in CARD
    assert re.search(r"make ready CANDLES=", CARD)


def test_its_settings_are_those_of_its_configuration(model):
    from natron.config import load_config
    kept, now = model.bundle.config.model_dump(), load_config(root/"configs/ready.yaml").model_dump()
    for group in ("features", "labels", "data", "model"): assert kept[group] == now[group], group


def test_no_bar_of_its_sample_was_learnt_from(model):
    assert sample_candles("GBPUSD").index[0] > pd.Timestamp(model.bundle.fit_span["known"])


def market(times, price, sd, tick):
    "A random walk at these times."
    rng = np.random.default_rng(0)
    close = price*np.exp(rng.normal(0, sd, len(times)).cumsum())
    opened = np.append(price, close[:-1])
    wick = np.exp(np.abs(rng.normal(0, sd/2, (2, len(times)))))
    high, low = np.maximum(opened, close)*wick[0], np.minimum(opened, close)/wick[1]
    prices = {k: np.maximum(np.round(v/tick), 1)*tick
              for k, v in dict(open=opened, high=high, low=low, close=close).items()}
    return pd.DataFrame(prices | dict(volume=rng.integers(1, 9999, len(times)).astype(float)),
                        pd.DatetimeIndex(times, name="time"))


HOURS = pd.date_range("2021-01-04", periods=2880, freq="h", tz="UTC")
WEEK = HOURS[HOURS.day_of_week < 5]
UNLIKE = {
    "crypto, open at weekends": (market(HOURS, 40_000, .008, .01), "at hours of the week at which training had none"),
    "shares, closed at night": (market(WEEK[(WEEK.hour >= 14) & (WEEK.hour < 21)], 150, .006, .01),
                                "trading stops 13 times in these 96 bars"),
    "a penny stock": (market(WEEK, .012, .01, .001), "of the last 96 bars have no range"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_it_says_that_a_market_is_unlike_what_it_knows(model, name):
    candles, says = UNLIKE[name]
    told = [w["message"] for w in model.predict(candles[-512:])["warnings"]]
    assert any(says in t for t in told), told


def test_it_does_not_say_so_of_a_market_that_it_knows(model):
    candles = sample_candles("GBPUSD")
    codes = {w["code"] for i in range(600, 6000, 600) for w in model.predict(candles[i-512:i])["warnings"]}
    assert codes <= {"after_training"}


def test_it_refuses_bars_for_which_it_was_not_measured(model):
    daily = market(pd.date_range("2015-01-01", periods=600, freq="D", tz="UTC"), 1.3, .006, 1e-5)
    with pytest.raises(BundleError, match="these candles are 1 day long"): model.predict(daily[-512:])
