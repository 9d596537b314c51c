"""Natron beside its challengers, a foundation model of time series among them: `python benchmarks/challengers.py`.

One table of forecasters of volatility and what their ranges are worth, on the same bars: Natron's model as it comes
(`--model FILE` for another), HAR, HAR with a level for each hour, LightGBM on Natron's columns with lags and three
averaged seeds (`--no-lightgbm` saves its minute), and Chronos. The bars are those after the model's data; the
baselines learn from their first half, and all are scored on the second. Natron brings the paths of its file and is
not moved; the others get a library of their own, and are levelled, in the first half.

`--chronos FOLDER` takes weights of Chronos-Bolt or Chronos-2 that are there already; nothing is downloaded. Their
library is no part of Natron: `pip install --constraint constraints.txt chronos-forecasting`. `--candles FILE...`
takes other candles, `--stride N` scores every Nth bar, `--out FILE` appends the table to a file.
"""
import argparse, os, re, time
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np, torch
from natron.bundle import load_bundle
from natron.core import NatronError, resource
from natron.evaluate import on_own_market
from natron.finetune import prepare_for
from natron.range_scores import RANGE_FORECASTERS, market, network_forecasts, score_ranges, tree_forecasts
from natron.rolling import rolling_mean
from natron.tasks import HORIZONS
from common import read_series, save, table

CONTEXT, BATCH, WEEK = 512, 256, 120               # bars a forecast sees, forecasts at once, bars
LEVELS = [k/10 for k in range(1, 10)]
BUCKETS = [slice(a, b) for a, b in zip((0, *HORIZONS), HORIZONS)]
MISSING = ("No Chronos weights were at hand, so there is no row of it: `--chronos FOLDER` takes a folder with those of "
           "Chronos-Bolt or Chronos-2, and needs "
           "`pip install --constraint constraints.txt chronos-forecasting`.")


def load_chronos(folder):
    "A pipeline of weights on this machine."
    if not (folder/"config.json").exists():
        raise NatronError(f"{folder} holds no weights (no config.json); name the folder of a Chronos-Bolt or Chronos-2")
    if not find_spec("chronos"):
        raise NatronError("chronos is not installed; install it with: "
                          "pip install --constraint constraints.txt chronos-forecasting")
    from chronos import BaseChronosPipeline
    return BaseChronosPipeline.from_pretrained(folder, device_map="cpu")


def licence(folder):
    "What the model card in the folder names."
    card = folder/"README.md"
    named = re.search(r"^license:\s*(\S+)", card.read_text(encoding="utf-8"), re.M) if card.exists() else None
    return f"licence {named[1]}" if named else "no model card there that names a licence"


def contexts(market):
    """Log variances of the last bars up to each bar, (N,CONTEXT), NaN before the first;
    a bar of zero range counts as a thousandth of the week's mean."""
    with np.errstate(divide="ignore"): x = np.log(np.maximum(market.variance, 1e-3*rolling_mean(market.variance, WEEK)))
    return np.lib.stride_tricks.sliding_window_view(np.append(np.full(CONTEXT-1, np.nan), x), CONTEXT)


def chronos_forecasts(market, pipeline):
    "Chronos's log variances (N,5) in validation and test part: of each bucket the mean over its bars and quantiles."
    seen, out = contexts(market), np.full((len(market.candles), len(HORIZONS)), np.nan)
    rows = np.r_[market.split.validation, market.split.test]
    for batch in np.array_split(rows, -(-len(rows)//BATCH)):
        quantiles, _ = pipeline.predict_quantiles(list(torch.tensor(seen[batch], dtype=torch.float32)),
                                                  prediction_length=HORIZONS[-1], quantile_levels=LEVELS)
        variance = np.exp(torch.stack([q.reshape(HORIZONS[-1], -1)
                                       for q in quantiles]).double().numpy()).mean(2)    # (n,24)
        out[batch] = np.log(np.stack([variance[:, b].mean(1) for b in BUCKETS], 1))
    return out


def timed(f):
    "Forecasts of every series, and the processor seconds that a thousand took."
    start = time.process_time()
    terms = f()
    took = time.process_time()-start
    return terms, 1000*took/sum(np.isfinite(t).all(1).sum() for t in terms)


def challenge(bundle, candles, lightgbm=True, pipeline=None, stride=1):
    "Scores of every forecaster, and what its forecasts cost."
    prep = on_own_market(prepare_for(bundle, candles, start=bundle.config.data.until))
    markets = [market(s.candles, p) for s, p in zip(prep.series, prep.splits)]
    asked = ({"natron": lambda: network_forecasts(prep, bundle.model())}
             | {n: lambda f=RANGE_FORECASTERS[n]: [f(m) for m in markets] for n in ("har", "har_hour")})
    if lightgbm: asked["lightgbm"] = lambda: tree_forecasts(prep, markets)
    if pipeline: asked["chronos"] = lambda: [chronos_forecasts(m, pipeline) for m in markets]
    made = {n: timed(f) for n, f in asked.items()}
    own = bundle.scenarios_of()
    scores = score_ranges(dict(zip(candles, markets)), {n: t for n, (t, _) in made.items()}, prep.config.evaluate,
                          stride, libraries={"natron": own} if own else {})
    return scores, {n: s for n, (_, s) in made.items()}


def report(scores, seconds):
    "A row a forecaster: scores, the difference to Natron's, and what it costs."
    rows = []
    for n, r in scores.rows.items():
        v = scores.compare(n, "natron")
        less = "" if n == "natron" else f"{v.difference:+.3f} [{v.low:+.3f}, {v.high:+.3f}]"
        rows.append((n, f"{r.qlike_12.mean():.3f}", f"{r.crps_12.mean():.3f}", less, f"{r.interval_90_12.mean():.1f}",
                     f"{100*r.covered_90_12.mean():.1f}", f"{seconds[n]:.2g}"))
    return table(["", "QLIKE, variance of bars 7 to 12", "CRPS, close over 12 bars, bp",
                  f"CRPS less Natron's, {v.blocks} blocks", "interval score, 90 %, bp", "90 % range holds, %",
                  "processor seconds a thousand forecasts"], rows)


def main(args=None):
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--model", type=Path, default=resource("data/natron_fx.pt"))
    a.add_argument("--candles", nargs="+", type=Path, default=[resource("data/gbpusd_h1_2021.csv.gz")])
    a.add_argument("--chronos", type=Path, metavar="FOLDER")
    a.add_argument("--bars", type=int, default=0, help="the last bars of each file only")
    a.add_argument("--stride", type=int, default=1)
    a.add_argument("--no-lightgbm", action="store_true")
    a.add_argument("--out", type=Path)
    a = a.parse_args(args)

    torch.set_num_threads(1)
    candles = {n: c[-a.bars:] for n, c in read_series(a.candles).items()}
    pipeline = load_chronos(a.chronos) if a.chronos else None
    scores, seconds = challenge(load_bundle(a.model), candles, not a.no_lightgbm, pipeline, a.stride)
    span = " to ".join(f"{t:%Y-%m-%d}" for t in (scores.about.time.min(), scores.about.time.max()))
    thinned = f", one in {a.stride}" if a.stride > 1 else ""
    text = [f"{', '.join(candles)}; {len(scores.about):,} scored bars{thinned}, {span}; {a.model.name}; one core",
            report(scores, seconds), f"Chronos: {a.chronos.name}, {licence(a.chronos)}." if pipeline else MISSING]
    print(*text, sep="\n\n")
    save(a.out, text)


if __name__ == "__main__": main()
