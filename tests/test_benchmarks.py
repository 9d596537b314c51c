"""The forecaster of `benchmarks/ranges.py` that no notebook holds, beside the library it comes from;
`benchmarks/scale.py` and `benchmarks/challengers.py`, small; what the benchmarks share."""
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np, pytest, torch
from natron.candles import sample_candles, simulate_candles, write_candles
from natron.config import DataConfig
from natron.core import NatronError
from natron.features import feature_frame
from natron.range_scores import RANGE_FORECASTERS, market
from natron.splits import split_series

sys.path.insert(0, str(Path(__file__).resolve().parent.parent/"benchmarks"))
import challengers, common, scale

BUCKETS = ((0, 1), (1, 3), (3, 6), (6, 12), (12, 24))            # bars from now


@pytest.fixture(scope="module")
def ranges():
    "The module; it is slow to load, and only one process needs it."
    import ranges
    RANGE_FORECASTERS.pop("garch_t")      # the registry stays as the package has it
    return ranges


@pytest.fixture(scope="module")
def eurusd():
    candles = sample_candles()[:5900]
    return market(candles, split_series([candles.index], DataConfig(), 24)[0])


def test_garch_forecasts_as_arch_does(eurusd, ranges):
    from arch import arch_model
    first = eurusd.split.validation.start
    r = np.diff(np.log(eurusd.candles.close.to_numpy(float)))
    sd, model = r[:first-1].std(), dict(mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
    fit = arch_model(r[:first]/sd, **model).fit(disp="off")
    later = arch_model(r[:first+7]/sd, **model).fix(fit.params)
    for known, row in ((fit, first), (later, first+7)):
        ahead = known.forecast(horizon=24).variance.to_numpy()[-1]*sd**2
        wanted = [ahead[a:b].mean() for a, b in BUCKETS]
        np.testing.assert_allclose(np.exp(ranges.garch(eurusd)[row]), wanted, rtol=1e-3)


def test_garch_is_causal(eurusd, ranges):
    t, later = eurusd.split.validation.start+510, eurusd.candles.copy()
    later.iloc[t+1:, :4] *= 1.5
    np.testing.assert_allclose(ranges.garch(replace(eurusd, candles=later))[:t+1], ranges.garch(eurusd)[:t+1])


def test_scale_gives_the_same_inputs_with_a_store(tmp_path):
    found = dict(anew=scale.part(2, 1500, 1), store=scale.part(2, 1500, 1, str(tmp_path)))
    assert found["anew"]["digest"] == found["store"]["digest"]
    assert len(list(tmp_path.iterdir())) == 2
    columns = feature_frame(simulate_candles(600, seed=0)).shape[1]
    assert found["anew"]["sizes"]["inputs"] == 2*1500*columns*4/1e9
    head, table, plain, same = scale.report(found, 2, 1500)
    assert "| feature store | features out of the full store |" in table
    assert "under 6 GB" in plain
    assert "Inputs and labels are the same each way." in same


def test_files_of_one_name_are_refused(tmp_path):
    files = [tmp_path/f"{folder}/SIM.csv" for folder in "ab"]
    for f in files:
        f.parent.mkdir()
        write_candles(simulate_candles(600, seed=0), f)
    assert list(common.read_series(files[:1])) == ["SIM"]
    with pytest.raises(NatronError, match="two candle files have one name"): common.read_series(files)


def test_a_saved_report_names_the_command_as_it_ran(monkeypatch, tmp_path):
    out = tmp_path/"out.md"
    monkeypatch.setattr("sys.argv", ["/any/where/ranges.py", "--bars", "900", "--only", "one, two", "--out", str(out)])
    common.save(out, ["first", "second"])
    head, *text = out.read_text().strip().split("\n\n")
    assert head.endswith(", `python benchmarks/ranges.py --bars 900 --only 'one, two' --out out.md`")
    assert text == ["first", "second"]


def test_what_is_kept_must_be_of_the_same_settings():
    common.check_kept("a.pt", dict(seed=0), dict(seed=0))
    with pytest.raises(SystemExit, match="a.pt was made with other settings or candles"):
        common.check_kept("a.pt", dict(seed=0), dict(seed=1))


FEW = ["--no-lightgbm", "--bars", "1200", "--stride", "40"]


class LastDay:
    "Stands in for Chronos: every level repeats the last day, in the shape of Chronos-Bolt or of Chronos-2."
    def __init__(self, second=False): self.second = second
    def predict_quantiles(self, inputs, prediction_length, quantile_levels):
        self.length, day = len(inputs[0]), torch.stack(inputs)[:, -prediction_length:, None]
        out = day.expand(-1, -1, len(quantile_levels))
        return (list(out[:, None]) if self.second else out), day[..., 0]


def table_rows(text): return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")][2:]


def test_challengers_say_that_no_weights_were_at_hand(capsys):
    challengers.main(FEW)
    out = capsys.readouterr().out
    assert table_rows(out) == ["natron", "har", "har_hour"]
    assert out.startswith("gbpusd_h1_2021; ") and ", one in 40, " in out and "; natron_fx.pt; one core\n" in out
    assert out.endswith(challengers.MISSING + "\n")


def test_challengers_score_chronos_where_its_weights_are(capsys, monkeypatch, tmp_path):
    pipeline, folder = LastDay(), tmp_path/"chronos-bolt"
    folder.mkdir()
    (folder/"README.md").write_text("---\nlicense: apache-2.0\n---\n")
    monkeypatch.setattr(challengers, "load_chronos", lambda f: pipeline)
    challengers.main([*FEW, "--chronos", str(folder), "--out", str(tmp_path/"out.md")])
    out = capsys.readouterr().out
    assert table_rows(out) == ["natron", "har", "har_hour", "chronos"]
    assert "nan" not in out
    assert out.endswith("Chronos: chronos-bolt, licence apache-2.0.\n")
    assert out in (tmp_path/"out.md").read_text()
    assert pipeline.length == 512


def test_chronos_forecasts_are_means_over_the_bars_of_a_bucket(eurusd):
    found, t = challengers.chronos_forecasts(eurusd, LastDay()), eurusd.split.test.start+300
    day = eurusd.variance[t-23:t+1]
    wanted = [day[a:b].mean() for a, b in BUCKETS]
    assert day.min() > 0
    np.testing.assert_allclose(np.exp(found[t]), wanted, rtol=1e-5)
    np.testing.assert_array_equal(found, challengers.chronos_forecasts(eurusd, LastDay(second=True)))
    known = np.isfinite(found).all(1)
    assert known[eurusd.split.validation].all() and known[eurusd.split.test].all()
    assert known.sum() == len(np.r_[eurusd.split.validation, eurusd.split.test])


def test_chronos_sees_nothing_that_comes_later(eurusd):
    t, later = eurusd.split.validation.start+510, eurusd.variance.copy()
    later[t+1:] *= 3
    seen, changed = challengers.contexts(eurusd), challengers.contexts(replace(eurusd, variance=later))
    np.testing.assert_array_equal(changed[:t+1], seen[:t+1])
    assert changed[t+1, -1] != seen[t+1, -1]
    assert seen.shape == (5900, 512)


def test_chronos_needs_weights_on_this_machine_and_its_library(monkeypatch, tmp_path):
    with pytest.raises(NatronError, match="holds no weights"): challengers.load_chronos(tmp_path)
    (tmp_path/"config.json").write_text("{}")
    monkeypatch.setattr(challengers, "find_spec", lambda name: None)
    with pytest.raises(NatronError, match="pip install --constraint constraints.txt chronos-forecasting"):
        challengers.load_chronos(tmp_path)
    assert challengers.licence(tmp_path) == "no model card there that names a licence"
