"""Does a model know markets that it never saw? `python benchmarks/unseen.py --candles FILE... --tz EET --keep DIR`.

Each market is left out in turn: a model of `configs/ready.yaml` is trained on the others, up to its cut-off date, and
judged on the left-out market from that date on. Beside it stand baselines that were fitted on the same other markets,
and baselines that were fitted on the left-out market itself, of the same years. LightGBM sees the features now and 6
and 24 bars ago, with three seeds. Ranges come from the model's own paths, of the others. Intervals are of blocks of
five trading days, paired where two are compared. `--bars 4h` asks the same models about longer bars, made of the
left-out market's. `--finetune` adds, for spans of the left-out market that end at the cut-off, the model finetuned on
them (`natron train --from`) and one trained on them alone (`natron train`). `--no-volume` asks about the same markets
without their volume. `--keep DIR` keeps models and forecasts, so that a run goes on where it was stopped; `--out FILE`
appends the tables to a file.
"""
import argparse, os, pickle, time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np, pandas as pd, torch
from natron.baselines import Trees, baseline_forecasts, parts_of
from natron.bundle import load_bundle, save_bundle
from natron.calibrate import calibrate, calibrated_probs, fit_scenarios
from natron.candles import read_candles
from natron.config import load_config
from natron.core import atomic_write, make_rng
from natron.dataset import prepare, window_data
from natron.finetune import finetune, finetune_config, make_bundle, predict_windows, prepare_for, prepare_from
from natron.metrics import block_length, mean_interval, task_scores, task_sums
from natron.range_scores import RANGE_FORECASTERS, market, network_forecasts, score_ranges
from natron.splits import Splits, split_series
from natron.tasks import shown
from common import table

READY = Path(__file__).parent.parent/"configs/ready.yaml"
STRIDE = 5                                                # bars from one scored range to the next; visits every hour
SPANS = {"3 months": .25, "1 year": 1, "3 years": 3, "8 years": 8}
# shares where one market is learnt from; its scores come from later bars
ALONE = {"train": .68, "validation": .2, "test": .12}
NONE = slice(0, 0)


def kept(path, make):
    "What `make` gives, made once."
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.process_time()
        out = make()
        with atomic_write(path) as tmp: tmp.write_bytes(pickle.dumps(out))
        print(f"{path.name}: {time.process_time()-start:.0f} processor seconds", flush=True)
    return pickle.loads(path.read_bytes())


def trained(path, candles, cfg, parent=None):
    "A model file of these candles, trained once, as a training run makes it."
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.process_time()
        prep = prepare_from(parent, candles, cfg, early(candles, parent)) if parent else prepare(candles, cfg)
        model, _ = finetune(prep, parent=parent)
        save_bundle(make_bundle(model, prep, candles, calibrate(prep, model), scenarios=fit_scenarios(prep, model),
                                parent=parent), path)
        print(f"{path.name}: trained in {time.process_time()-start:.0f} processor seconds", flush=True)
    return load_bundle(path)


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


def of_market(name, bundle, candles, keep, lightgbm, own_bars=None):
    "Labels, times and everybody's forecasts of one left-out market, by task."
    own = {name: own_bars if own_bars is not None else candles[name]}
    prep = prepare_for(bundle, candles | own, start=bundle.config.data.until)
    prep = replace(prep, splits=[s if o.name == name else replace(s, test=NONE)
                                 for s, o in zip(prep.splits, prep.series)])
    data = window_data(prep, "test")
    said = {"model": model_forecasts(bundle, prep)}
    for who, names in {"": set(candles)-{name}, ", own": {name}}.items():
        if own_bars is not None and not who: continue
        found = kept(keep/f"{name}{who}.pkl", lambda: fitted_forecasts(fitted_on(prep, names), lightgbm))
        said |= {f"{b}{who}": {t: p[b] for t, p in found.items() if b in p}
                 for b in {b for p in found.values() for b in p}}
    y = {t.name: data.y[data.ends, k].numpy() for k, t in enumerate(prep.labels.tasks)}
    return prep, data.times, y, said


def losses(p, y):
    "Log-loss of each row."
    return -np.log(np.maximum(p[np.arange(len(y)), y.astype(int)], 1e-15))


def less(p, other, y, times, task, cfg):
    "The other's log-loss, and what the first adds to it, with its paired interval."
    mine, theirs = losses(p, y), losses(other, y)
    low, high, _ = mean_interval(mine-theirs, times, block_length(task, cfg), cfg.resamples,
                                 make_rng(0, task.name), cfg.interval)
    span = "of one block" if np.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"
    return f"{theirs.mean():.3f}: {(mine-theirs).mean():+.3f} {span}"


def rows_of(task, found, who, cfg):
    """A row a market, one of all, and one of all in each year: log-loss, ECE,
    and the model's difference to each of `who`."""
    years = sorted({y for _, t, _, _ in found.values() for y in t.year})
    for name in [*found, "all", *years]:
        some = [found[name]] if name in found else list(found.values())
        first, *rest = [t for _, t, _, _ in some]
        times, y = first.append(rest), np.concatenate([y[task.name] for _, _, y, _ in some])
        k = ~np.isnan(y) & ((times.year == name) | (name not in years))
        y, times = y[k], times[k]
        def of(n): return np.concatenate([said[n][task.name] for _, _, _, said in some])[k]

        p = of("model")
        scores = task_scores(task, task_sums(task, y, p).sum(0, dtype=float))
        sides = [f"{scores['side_auc']:.3f}"] if "side_auc" in scores else []
        yield (f"all, {name}" if name in years else name, f"{len(y):,}", f"{losses(p, y).mean():.3f}",
               f"{scores['ece']:.3f}", *sides, *(less(p, of(n), y, times, task, cfg) for n in who))


def tables(found, cfg):
    tasks = [t for t in shown(next(iter(found.values()))[0].labels.tasks) if t.classes]
    have = next(iter(found.values()))[3]
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


def longer(candles, bars):
    """Bars of so many hours, as UTC counts them, those without every hour of theirs too;
    a bar is named by when it opens."""
    how = dict(open="first", high="max", low="min", close="last", volume="sum")
    return candles.resample(bars, label="left", closed="left").agg(how).dropna()


def any_bars(bundle, seconds):
    "The same model, taken for one of bars of another length."
    span = bundle.fit_span | {"series": {n: s | {"bar_seconds": seconds} for n, s in bundle.fit_span["series"].items()}}
    return replace(bundle, fit_span=span)


def years_before(candles, cut, years):
    "The candles of so many years before the cut-off."
    cut = pd.Timestamp(cut, tz="UTC")
    return candles[cut-pd.Timedelta(days=365.25*years):cut-pd.Timedelta(seconds=1)]


def finetuned(name, bundle, candles, keep):
    """Answers about volatility from the cut-off on: as the model comes, finetuned on a span of the market,
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
        out[span] = {who: answers_since(m, name, candles, cut) for who, m in models.items()}
    return out | {"as it comes": answers_since(bundle, name, candles, cut)}


def answers_since(bundle, name, candles, cut):
    "Volatility probabilities of the left-out market from the cut-off on."
    prep = prepare_for(bundle, {name: candles[name]}, start=cut)
    return pd.DataFrame(model_forecasts(bundle, prep)["volatility"], window_data(prep, "test").times)


def volume_table(found, models, candles, cfg):
    "A row a market: volatility of a left-out market as it is, and as if nobody had counted its volume."
    task, out, both = (next(t for t in shown(next(iter(found.values()))[0].labels.tasks) if t.name == "volatility"),
                       [], [])
    for name, bundle in models.items():
        bare = answers_since(bundle, name, {name: candles[name].assign(volume=np.nan)}, bundle.config.data.until)
        p, y = (pd.DataFrame(found[name][3]["model"]["volatility"], found[name][1]),
                pd.Series(found[name][2]["volatility"], found[name][1]).dropna())
        rows = bare.index.intersection(p.index).intersection(y.index)
        both.append((name, bare.loc[rows].to_numpy(), p.loc[rows].to_numpy(), y[rows].to_numpy(), rows))

    for name, p, q, y, times in [*both, ("all", *(np.concatenate([b[k] for b in both]) for k in (1, 2, 3)),
                                         both[0][4].append([b[4] for b in both[1:]]))]:
        with_it, _, less_it = less(p, q, y, times, task, cfg).partition(": ")
        out.append((name, f"{len(y):,}", with_it, f"{losses(p, y).mean():.3f} ({less_it})",
                    f"{task_scores(task, task_sums(task, y, p).sum(0, dtype=float))['ece']:.3f}"))
    return table(["volatility: left-out market", "bars",
                  "log-loss with volume", "without (less with)", "ECE without"], out)


def finetune_table(found, answers, cfg):
    "A row a span: the three models on the same bars of all left-out markets."
    task = next(t for t in shown(next(iter(found.values()))[0].labels.tasks) if t.name == "volatility")
    def stack(f): return pd.concat([pd.concat([f(n)], keys=[n]) for n in answers])
    y = stack(lambda n: pd.Series(found[n][2]["volatility"], found[n][1]))
    out, comes = [], stack(lambda n: answers[n]["as it comes"])
    for span in SPANS:
        said = {"as it comes": comes, **{w: stack(lambda n: answers[n][span][w]) for w in ("finetuned", "anew")}}
        rows = comes.index
        for p in said.values(): rows = rows.intersection(p.index)
        rows = rows.sort_values()
        times = rows.get_level_values(1)
        p = {w: q.loc[rows].to_numpy() for w, q in said.items()}
        right = y[rows].to_numpy()
        known = ~np.isnan(right)
        def beside(w): return less(p[w][known], p["as it comes"][known], right[known], times[known], task, cfg)
        def told(w): return f"{losses(p[w][known], right[known]).mean():.3f}"

        out.append((span, f"{known.sum():,}", told("as it comes"),
                    *(f"{told(w)} ({beside(w).partition(': ')[2]})" for w in ("finetuned", "anew"))))
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

    candles = {p.name.split(".")[0]: read_candles(p, tz=a.tz) for p in a.candles}
    cfg = load_config(READY, **{"train.tracker": "none", "device": "cpu"})
    found, ranges, answers, longs, models = {}, {}, {}, {}, {}
    for name in a.only or candles:
        models[name] = bundle = trained(a.keep/f"without_{name}.pt",
                                        {n: c for n, c in candles.items() if n != name}, cfg)
        found[name] = of_market(name, bundle, candles, a.keep, ["volatility"])
        ranges[name] = range_scores(name, bundle, found[name][0])
        if a.bars:
            long = longer(candles[name], a.bars)
            taken = any_bars(bundle, pd.Timedelta(a.bars).total_seconds())
            longs[name] = of_market(name, taken, {name: long}, a.keep/a.bars, ["volatility"], long)
            ranges[f"{name}, {a.bars}"] = range_scores(name, taken, longs[name][0])
        if a.finetune: answers[name] = finetuned(name, bundle, candles, a.keep/"finetuned")

    first = next(iter(found.values()))[1]
    text = [f"{', '.join(found)}, each left out of the others' training; "
            f"judged from {first.min():%Y-%m-%d} to {first.max():%Y-%m-%d}; one core", *tables(found, cfg.evaluate)]
    text.append(range_table({n: s for n, s in ranges.items() if n in found}))
    if longs:
        text += [f"The same models asked about bars of {a.bars}:", *tables(longs, cfg.evaluate),
                 range_table({n: s for n, s in ranges.items() if n not in found})]
    if answers: text.append(finetune_table(found, answers, cfg.evaluate))
    if a.no_volume: text.append(volume_table(found, models, candles, cfg.evaluate))
    print(*text, sep="\n\n")
    if a.out:
        with open(a.out, "a") as f:
            f.write("\n\n".join(["", f"## {time.strftime('%Y-%m-%d')}, `python benchmarks/unseen.py`", *text]) + "\n")
