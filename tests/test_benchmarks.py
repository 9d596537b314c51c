"The forecaster of `benchmarks/ranges.py` that no notebook holds, beside the library it comes from; and `benchmarks/scale.py`, small."
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np, pytest
from arch import arch_model
from natron.candles import sample_candles
from natron.config import DataConfig
from natron.range_scores import RANGE_FORECASTERS, market
from natron.splits import split_series

sys.path.insert(0, str(Path(__file__).resolve().parent.parent/"benchmarks"))
import ranges, scale

RANGE_FORECASTERS.pop("garch_t")          # the registry stays as the package has it


@pytest.fixture(scope="module")
def eurusd():
    candles = sample_candles()[:5900]
    return market(candles, split_series([candles.index], DataConfig(), 24)[0])


def test_garch_forecasts_as_arch_does(eurusd):
    first = eurusd.split.validation.start; r = np.diff(np.log(eurusd.candles.close.to_numpy(float)))
    sd, model = r[:first-1].std(), dict(mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
    fit = arch_model(r[:first]/sd, **model).fit(disp="off")
    later = arch_model(r[:first+7]/sd, **model).fix(fit.params)
    for known, row in ((fit, first), (later, first+7)):
        ahead = known.forecast(horizon=24).variance.to_numpy()[-1]*sd**2
        wanted = [ahead[a:b].mean() for a, b in ((0, 1), (1, 3), (3, 6), (6, 12), (12, 24))]
        np.testing.assert_allclose(np.exp(ranges.garch(eurusd)[row]), wanted, rtol=1e-3)


def test_garch_is_causal(eurusd):
    t, later = eurusd.split.validation.start+510, eurusd.candles.copy()
    later.iloc[t+1:, :4] *= 1.5
    np.testing.assert_allclose(ranges.garch(replace(eurusd, candles=later))[:t+1], ranges.garch(eurusd)[:t+1])


def test_scale_gives_the_same_inputs_with_a_store(tmp_path):
    found = dict(anew=scale.part(2, 1500, 1), store=scale.part(2, 1500, 1, str(tmp_path)))
    assert found["anew"]["digest"] == found["store"]["digest"]
    assert len(list(tmp_path.iterdir())) == 2
    assert found["anew"]["sizes"]["inputs"] == 2*1500*112*4/1e9
    assert all(peak > found["anew"]["sizes"]["inputs"] for _, _, _, peak in found["anew"]["steps"])
    head, table, plain, same = scale.report(found, 2, 1500)
    assert "| feature store | features out of the full store |" in table
    assert "under 6 GB" in plain
    assert "Inputs and answers are the same each way." in same
