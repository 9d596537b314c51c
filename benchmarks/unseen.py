"""Does a model know markets that it never saw? `python benchmarks/unseen.py --candles FILE... --tz EET --keep DIR`.

Each market is left out in turn: a model of `configs/ready.yaml` is trained on the others, up to its cut-off date, and
evaluated on the left-out market from that date on. Beside it stand baselines that were fitted on the same other
markets, and baselines that were fitted on the left-out market itself, of the same years. LightGBM sees the features now
and 6 and 24 bars ago, with three seeds. Ranges come from the model's own paths, of the others. Intervals are of blocks
of five trading days, paired where two are compared. `--bars 4h` asks the same models about longer bars, made of the
left-out market's. `--finetune` adds, for spans of the left-out market that end at the cut-off, the model finetuned on
them (`natron train --from`) and one trained on them alone (`natron train`). `--no-volume` asks about the same markets
without their volume. `--keep DIR` keeps models and forecasts, so that a run goes on where it was stopped, with the same
settings and candles; `--out FILE` appends the tables to a file.
"""
import argparse, os, pickle, time
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np, pandas as pd, torch
from natron.baselines import Trees, baseline_forecasts, parts_of
from natron.bundle import load_bundle, save_bundle
from natron.calibrate import calibrate, calibrated_probs, fit_scenarios
from natron.candles import bar_length, data_hash
from natron.config import load_config
from natron.core import atomic_write, make_rng
from natron.dataset import Prepared, data_digest, prepare, training_candles, window_data
from natron.finetune import finetune, finetune_config, make_bundle, predict_windows, prepare_for, prepare_from
from natron.metrics import block_length, mean_interval, task_scores, task_sums
from natron.range_scores import RANGE_FORECASTERS, market, network_forecasts, score_ranges
from natron.splits import Splits, split_series
from natron.store import resample
from natron.tasks import shown
from common import check_kept, read_series, save, table

READY = Path(__file__).parent.parent/"configs/ready.yaml"
STRIDE = 5                                                # bars from one scored range to the next; visits every hour
SPANS = {"3 months": .25, "1 year": 1, "3 years": 3, "8 years": 8}
# shares where one market is learnt from; its scores come from later bars
ALONE = {"train": .68, "validation": .2, "test": .12}
NONE = slice(0, 0)


@dataclass(frozen=True)
class LeftOut:
    "A left-out market: what its test part holds, and every forecast of it."
    prep: Prepared
    times: pd.DatetimeIndex
    y: dict         # labels by task, NaN where unknown
    forecasts: dict # probabilities by forecaster, then by task


@dataclass(frozen=True)
class Comparison:
    "The log-loss of a forecast and of another, and the paired interval of their difference, NaN of one block."
    score: float
    other: float
    low: float
    high: float

    def __str__(self):
        "The difference and its interval."
        span = "of one block" if np.isnan(self.low) else f"[{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.score-self.other:+.3f} {span}"


def kept(path, prep, lightgbm):
    "The baselines' forecasts for these data, made once."
    of = dict(settings=prep.config.model_dump(), data=data_digest(prep), splits=str(prep.splits), lightgbm=lightgbm)
    if not path.exists():
        start = time.process_time()
        out = dict(of=of, forecasts=fitted_forecasts(prep, lightgbm))
        with atomic_write(path) as tmp: tmp.write_bytes(pickle.dumps(out))
        print(f"{path.name}: {time.process_time()-start:.0f} processor seconds", flush=True)
    found = pickle.loads(path.read_bytes())
    check_kept(path, found.get("of"), of)
    return found["forecasts"]


def trained(path, candles, cfg, parent=None):
    "A model file of these candles, trained once, as a training run makes it."
    of = dict(settings=cfg, series={n: data_hash(c) for n, c in training_candles(candles, cfg.data).items()},
              parent=parent and parent.sha256)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.process_time()
        prep = prepare_from(parent, candles, cfg, early(candles, parent)) if parent else prepare(candles, cfg)
        model, _ = finetune(prep, parent=parent)
        save_bundle(make_bundle(model, prep, candles, calibrate(prep, model), scenarios=fit_scenarios(prep, model),
                                parent=parent), path)
        print(f"{path.name}: trained in {time.process_time()-start:.0f} processor seconds", flush=True)
    bundle = load_bundle(path)
    span = bundle.fit_span
    check_kept(path, dict(settings=bundle.config, series={n: s["hash"] for n, s in span["series"].items()},
                          parent=span.get("parent", {}).get("sha256")), of)
    return bundle


def early(candles, parent):
    "The parts of a finetuning whose scores come from later bars: no test part."
    shares, horizon = (parent.config.data.model_copy(update=ALONE),
                       max(t.horizon for t in parent.label_generator().tasks))
    return [replace(s, test=NONE) for s in split_series([c.index for c in candles.values()], shares, horizon)]


def model_forecasts(bundle, prep):
    "Calibrated probabilities of the test part, by task."
    p, how = predict_windows(bundle.model(), window_data(prep, "test")), bundle.calibrations()
    return {t.name: calibrated_probs(p[t.name], how.get(t.name)) for t in shown(prep.labels.tasks) if t.classes}


def fitted_on(prep, names):
    "The same test part, with nothing but these series to learn from."
    learn = [s.name in names for s in prep.series]
    return replace(prep, splits=[s if k else Splits(NONE, NONE, s.test) for s, k in zip(prep.splits, learn)])


def fitted_forecasts(prep, lightgbm):
    "Every baseline's forecasts for the test part, by task; LightGBM's for the tasks that it is asked about."
    data = [window_data(prep, part) for part in ("train", "validation", "test")]
    parts, tasks = parts_of(prep, data), prep.labels.tasks
    trees = Trees(prep, data) if lightgbm else None
    return {t.name: baseline_forecasts(t, *parts[tasks.index(t)], 0, trees if t.name in lightgbm else None)
            for t in shown(tasks) if t.classes}


def of_market(name, bundle, candles, keep, lightgbm):
    "The left-out market `name`; baselines are fitted on the other candles, where there are any, and on its own."
    prep = prepare_for(bundle, candles, start=bundle.config.data.until)
    prep = replace(prep, splits=[s if o.name == name else replace(s, test=NONE)
                                 for s, o in zip(prep.splits, prep.series)])
    data = window_data(prep, "test")
    forecasts = {"model": model_forecasts(bundle, prep)}
    for who, names in {"": set(candles)-{name}, ", own": {name}}.items():
        if not names: continue
        found = kept(keep/f"{name}{who}.pkl", fitted_on(prep, names), lightgbm)
        forecasts |= {f"{b}{who}": {t: p[b] for t, p in found.items() if b in p}
                      for b in {b for p in found.values() for b in p}}
    y = {t.name: data.y[data.ends, k].numpy() for k, t in enumerate(prep.labels.tasks)}
    return LeftOut(prep, data.times, y, forecasts)


def losses(p, y):
    "Log-loss of each row."
    return -np.log(np.maximum(p[np.arange(len(y)), y.astype(int)], 1e-15))


def compared(p, other, y, times, task, cfg):
    "One forecast beside another, on the same rows."
    mine, theirs = losses(p, y), losses(other, y)
    low, high, _ = mean_interval(mine-theirs, times, block_length(task, cfg), cfg.resamples,
                                 make_rng(0, task.name), cfg.interval)
    return Comparison(mine.mean(), theirs.mean(), low, high)


def scores_of(task, y, p): return task_scores(task, task_sums(task, y, p).sum(0, dtype=float))


def rows_of(task, found, who, cfg):
    """A row a market, one of all, and one of all in each year: log-loss, ECE,
    and the model's difference to each of `who`."""
    years = sorted({y for m in found.values() for y in m.times.year})
    for name in [*found, "all", *years]:
        some = [found[name]] if name in found else list(found.values())
        first, *rest = [m.times for m in some]
        times, y = first.append(rest), np.concatenate([m.y[task.name] for m in some])
        k = ~np.isnan(y) & ((times.year == name) | (name not in years))
        y, times = y[k], times[k]
        def of(n): return np.concatenate([m.forecasts[n][task.name] for m in some])[k]

        p = of("model")
        scores, pairs = scores_of(task, y, p), [compared(p, of(n), y, times, task, cfg) for n in who]
        sides = [f"{scores['side_auc']:.3f}"] if "side_auc" in scores else []
        yield (f"all, {name}" if name in years else name, f"{len(y):,}", f"{losses(p, y).mean():.3f}",
               f"{scores['ece']:.3f}", *sides, *(f"{c.other:.3f}: {c}" for c in pairs))


def tasks_of(found): return shown(next(iter(found.values())).prep.labels.tasks)


def volatility_of(found): return next(t for t in tasks_of(found) if t.name == "volatility")


def tables(found, cfg):
    "A table a task that has classes."
    tasks, have = [t for t in tasks_of(found) if t.classes], next(iter(found.values())).forecasts
    for t in tasks:
        who = [n for n in (f"{b}{w}" for w in ("", ", own") for b in ("prior", "har", "logistic", "lightgbm"))
               if n in have and t.name in have[n]]
        sides = ["UP against DOWN, AUC"] if t.role == "side" else []
        yield table([f"{t.name}: left-out market", "bars", "log-loss", "ECE", *sides, *(f"less {n}" for n in who)],
                    list(rows_of(t, found, who, cfg)))


def range_scores(name, bundle, prep):
    "Ranges of a left-out market from the model's own paths, beside those of forecasters fitted on the market itself."
    at = [s.name for s in prep.series].index(name)
    alone = replace(prep, series=[prep.series[at]], splits=[prep.splits[at]])
    m, (forecasts,) = market(alone.series[0].candles, alone.splits[0]), network_forecasts(alone, bundle.model())
    terms = {"model": [forecasts], **{n: [RANGE_FORECASTERS[n](m)] for n in ("atr_14", "har_hour")}}
    return score_ranges({name: m}, terms, prep.config.evaluate, STRIDE, libraries={"model": bundle.scenarios_of()})


def joined(scores):
    "The rows of all markets as one."
    first, names = scores[0], list(scores[0].rows)
    return replace(first, rows={n: pd.concat([s.rows[n] for s in scores], ignore_index=True) for n in names},
                   about=pd.concat([s.about for s in scores], ignore_index=True))


def range_table(by_name):
    out = []
    for name, s in (by_name | {"all": joined(list(by_name.values()))}).items():
        held = s.rows["model"]
        cover = [f"{100*held[f'covered_90_{h}'].mean():.1f}" for h in (1, 6, 12, 24)]
        pairs = [s.compare("model", n, "interval_90_12") for n in ("atr_14", "har_hour")]
        out.append((name, f"{len(held):,}", *cover, f"{held.interval_90_12.mean():.1f}",
                    *(f"{v.difference/(v.score-v.difference):+.1%} "
                      f"({v.difference:+.2f} [{v.low:+.2f}, {v.high:+.2f}])" for v in pairs)))
    return table(["ranges: left-out market", "bars", *(f"90 % holds, {h} bars, %" for h in (1, 6, 12, 24)),
                  "interval score, 12 bars, bp", "less ATR 14's", "less HAR's with the hour's, own"], out)


def any_bars(bundle, seconds):
    "The same model, taken for one of bars of another length."
    span = bundle.fit_span | {"series": {n: s | {"bar_seconds": seconds} for n, s in bundle.fit_span["series"].items()}}
    return replace(bundle, fit_span=span)


def years_before(candles, cut, years):
    "The candles of so many years before the cut-off."
    cut = pd.Timestamp(cut, tz="UTC")
    return candles[cut-pd.Timedelta(days=365.25*years):cut-pd.Timedelta(seconds=1)]


def finetuned(name, bundle, candles, keep):
    """Forecasts of volatility from the cut-off on: as the model comes, finetuned on a span of the market,
    trained anew on it."""
    cut = bundle.config.data.until
    alone = load_config(READY, **{"train.tracker": "none", "device": "cpu", "data.until": None}
                        | {f"data.{k}": v for k, v in ALONE.items()})
    out = {}
    for span, years in SPANS.items():
        own = {name: years_before(candles[name], cut, years)}
        models = {"finetuned": trained(keep/f"{name} finetuned {span}.pt", own,
                                       finetune_config(bundle, **{"train.tracker": "none"}), bundle),
                  "anew": trained(keep/f"{name} anew {span}.pt", own, alone)}
        out[span] = {who: volatility_since(m, name, candles, cut) for who, m in models.items()}
    return out | {"as it comes": volatility_since(bundle, name, candles, cut)}


def volatility_since(bundle, name, candles, cut):
    "Volatility probabilities of the left-out market from the cut-off on."
    prep = prepare_for(bundle, {name: candles[name]}, start=cut)
    return pd.DataFrame(model_forecasts(bundle, prep)["volatility"], window_data(prep, "test").times)


def volume_table(found, models, candles, cfg):
    "A row a market: volatility of a left-out market as it is, and as if nobody had counted its volume."
    task, parts = volatility_of(found), {}
    for name, bundle in models.items():
        m = found[name]
        without = volatility_since(bundle, name, {name: candles[name].assign(volume=np.nan)}, bundle.config.data.until)
        counted, y = (pd.DataFrame(m.forecasts["model"]["volatility"], m.times),
                      pd.Series(m.y["volatility"], m.times).dropna())
        rows = without.index.intersection(counted.index).intersection(y.index)
        parts[name] = without.loc[rows], counted.loc[rows], y[rows]

    parts["all"] = [pd.concat(o) for o in zip(*parts.values())]
    out = []
    for name, (without, counted, y) in parts.items():
        p, q, labels = without.to_numpy(), counted.to_numpy(), y.to_numpy()
        c = compared(p, q, labels, y.index, task, cfg)
        out.append((name, f"{len(y):,}", f"{c.other:.3f}", f"{c.score:.3f} ({c})",
                    f"{scores_of(task, labels, p)['ece']:.3f}"))
    return table(["volatility: left-out market", "bars",
                  "log-loss with volume", "without (less with)", "ECE without"], out)


def finetune_table(found, finetunes, cfg):
    "A row a span: the three models on the same bars of all left-out markets."
    task = volatility_of(found)
    def stack(f): return pd.concat([pd.concat([f(n)], keys=[n]) for n in finetunes])
    y = stack(lambda n: pd.Series(found[n].y["volatility"], found[n].times)).dropna()
    out, comes = [], stack(lambda n: finetunes[n]["as it comes"])
    for span in SPANS:
        new = {w: stack(lambda n: finetunes[n][span][w]) for w in ("finetuned", "anew")}
        rows = y.index.intersection(comes.index)
        for p in new.values(): rows = rows.intersection(p.index)
        rows = rows.sort_values()
        times, labels, before = rows.get_level_values(1), y[rows].to_numpy(), comes.loc[rows].to_numpy()
        pairs = [compared(p.loc[rows].to_numpy(), before, labels, times, task, cfg) for p in new.values()]
        out.append((span, f"{len(rows):,}", f"{pairs[0].other:.3f}", *(f"{c.score:.3f} ({c})" for c in pairs)))
    return table(["span of the market's own candles", "bars scored", "as it comes", "finetuned (less as it comes)",
                  "trained anew on them alone (less as it comes)"], out)


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--candles", nargs="+", type=Path, required=True)
    a.add_argument("--tz", default="UTC")
    a.add_argument("--keep", type=Path, required=True)
    a.add_argument("--only", nargs="+", metavar="NAME", help="leave out these markets alone")
    a.add_argument("--bars", metavar="4h")
    a.add_argument("--finetune", action="store_true")
    a.add_argument("--no-volume", action="store_true")
    a.add_argument("--out", type=Path)
    a = a.parse_args()
    torch.set_num_threads(1)

    candles = read_series(a.candles, a.tz)
    cfg = load_config(READY, **{"train.tracker": "none", "device": "cpu"})
    found, ranges, finetunes, longs, models = {}, {}, {}, {}, {}
    for name in a.only or candles:
        models[name] = bundle = trained(a.keep/f"without_{name}.pt",
                                        {n: c for n, c in candles.items() if n != name}, cfg)
        found[name] = of_market(name, bundle, candles, a.keep, ["volatility"])
        ranges[name] = range_scores(name, bundle, found[name].prep)
        if a.bars:
            long = resample(candles[name], a.bars)
            taken = any_bars(bundle, bar_length(long).total_seconds())
            longs[name] = of_market(name, taken, {name: long}, a.keep/a.bars, ["volatility"])
            ranges[f"{name}, {a.bars}"] = range_scores(name, taken, longs[name].prep)
        if a.finetune: finetunes[name] = finetuned(name, bundle, candles, a.keep/"finetuned")

    times = next(iter(found.values())).times
    text = [f"{', '.join(found)}, each left out of the others' training; "
            f"evaluated from {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}; one core", *tables(found, cfg.evaluate)]
    text.append(range_table({n: s for n, s in ranges.items() if n in found}))
    if longs:
        text += [f"The same models asked about bars of {a.bars}:", *tables(longs, cfg.evaluate),
                 range_table({n: s for n, s in ranges.items() if n not in found})]
    if finetunes: text.append(finetune_table(found, finetunes, cfg.evaluate))
    if a.no_volume: text.append(volume_table(found, models, candles, cfg.evaluate))
    print(*text, sep="\n\n")
    save(a.out, text)
