"""What its words are worth on real series: `python benchmarks/evaluation.py --candles FILE... [--model FILE]`, hourly series of some years each.

A model of `configs/cpu.yaml` is trained on the series, or one that was trained on them is given. On its test part, which decided nothing: calibration of every head before and after, coverage of the conformal
sets, fixed and adaptive, accuracy of the surest fifth, and how far its sureness is off. On the validation part: what the four sources of confidence know beside the announced probability. `--price P...` trains the same networks
again, with that weight of the Brier confidence penalty (`experimental.confidence_penalty`), and holds them against these on the validation part alone. `--out FILE` appends the tables to a file.
"""
import argparse, os, time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np, pandas as pd, torch
from natron.bundle import load_bundle
from natron.calibrate import calibrate, corrected, log_loss
from natron.candles import read_candles
from natron.confidence import confidence_sources, source_table
from natron.config import load_config, with_settings
from natron.dataset import prepare, window_data
from natron.metrics import class_scores, class_sums
from natron.finetune import finetune, predict_windows
from natron.evaluate import TaskForecasts, task_forecasts
from natron.model import Ensemble
from natron.report import class_table, confidence_error, confidence_table
from common import table

ASKED = dict(ece="0.03 on average, 0.05 at most", held_90="88 to 92 %", surest_fifth="10 points above all", confidence_error="0.05")


def eces(prep, model, how):
    "ECE and log-loss of each head on the test part: raw, and corrected."
    data = window_data(prep, "test"); raw = predict_windows(model, data); rows = []
    for k, t in enumerate(prep.labels.tasks):
        if not t.classes: continue
        y = data.y[data.ends, k].numpy(); known = ~np.isnan(y)
        s = [class_scores(class_sums(y[known], p[known]).sum(0, dtype=float), len(t.classes)) for p in (raw[t.name], corrected(raw[t.name], how.get(t.name)))]
        rows.append((t.name, how[t.name].method, *(f"{float(o[m]):.4f}" for m in ("ece", "brier", "log_loss") for o in s)))
    return rows


def sources(prep, model):
    "The table of the four sources for each task, on every fourth window of the validation part."
    data = window_data(prep, "validation", stride=4); probs, found = predict_windows(model, data), confidence_sources(model, prep, stride=4)
    for k, t in enumerate(prep.labels.tasks):
        if t.classes: yield t.name, source_table(found[t.name], probs[t.name], data.y[data.ends, k].numpy())


def priced(prep, model, prices):
    "Log-loss and error of the announced sureness on every fourth window of the validation part, uncorrected: of the ensemble, and of its networks from the best to the worst; a row a price and task."
    data = window_data(prep, "validation", stride=4)
    for price in (0., *prices):
        net = finetune(replace(prep, config=with_settings(prep.config, **{"experimental.confidence_penalty": price})))[0] if price else model
        members = [predict_windows(m, data) for m in (net.members if isinstance(net, Ensemble) else [net])]
        for k, t in enumerate(prep.labels.tasks):
            if not t.classes: continue
            y = data.y[data.ends, k].numpy(); known = ~np.isnan(y); said = [np.mean([m[t.name] for m in members], 0)[known], *(m[t.name][known] for m in members)]
            off = [confidence_error(TaskForecasts(t, y[known], {"model": p}, data.times[known], None, None, pd.DataFrame(dict(sure=p.max(1))))) for p in said]; cost = [log_loss(p, y[known]) for p in said]
            yield f"{price:g}", t.name, *(f"{o[0]:.4f} ({', '.join(f'{v:.4f}' for v in sorted(o[1:]))})" for o in (cost, off))


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__); a.add_argument("--candles", nargs="+", type=Path, required=True); a.add_argument("--model", type=Path); a.add_argument("--price", nargs="+", type=float, default=[]); a.add_argument("--out", type=Path); a = a.parse_args(); torch.set_num_threads(1)
    series = {p.name.split(".")[0]: read_candles(p) for p in a.candles}
    cfg = load_bundle(a.model).config if a.model else load_config(Path(__file__).parent.parent/"configs/cpu.yaml", **{"train.tracker": "none", "device": "cpu"})
    prep = prepare(series, cfg); model = load_bundle(a.model).model() if a.model else finetune(prep)[0]
    start = time.process_time(); how = calibrate(prep, model); took = time.process_time()-start
    heads = eces(prep, model, how); said = task_forecasts(prep, model, how, True); trust = confidence_table(said, cfg.evaluate, cfg.seed); classes = class_table(said)
    span = f"{said[0].times.min():%Y-%m-%d} to {said[0].times.max():%Y-%m-%d}, {len(said[0].y):,} windows of {len(series)} series"
    text = [f"Test part: {span}; calibration took {took:.0f} s of one core.",
            table(["head", "correction", "ECE, raw", "corrected", "Brier, raw", "corrected", "log-loss, raw", "corrected"], heads),
            f"ECE of the corrected heads: {np.mean([float(h[3]) for h in heads]):.4f} on average, {max(float(h[3]) for h in heads):.4f} at most (asked {ASKED['ece']}).",
            table(["task", "accuracy", f"surest fifth (asked {ASKED['surest_fifth']})", f"sureness off by (asked {ASKED['confidence_error']})", "80 % sets hold", "adaptive", f"90 % sets hold (asked {ASKED['held_90']})", "adaptive", "classes in a 90 % set"],
                  [(n, f"{r.accuracy:.3f}", f"{r.surest_fifth:.3f}", f"{r.confidence_error:.4f}", *(f"{r[k]:.3f}" for k in ("held_80", "held_80_adaptive", "held_90", "held_90_adaptive")), f"{r.size_90:.2f}") for n, r in trust.iterrows()])]
    text.append(table(["task", "class", "share", "recall", "90 % sets hold it", "adaptive", "class-conditional"],
                      [(*n, *(f"{r[k]:.3f}" for k in ("share", "recall", "held_90", "held_90_adaptive", "held_90_by_class"))) for n, r in classes.iterrows()]))
    text.append(table(["task", "90 % sets, class-conditional, hold", "classes in one", "classes in one for all cases"],
                      [(n, f"{r.held_90_by_class:.3f}", f"{r.size_90_by_class:.2f}", f"{r.size_90:.2f}") for n, r in trust.iterrows()]))
    for name, t in sources(prep, model):
        text.append(table([f"{name}, validation part", "area under the curve of being right", "log-loss of being right beside the announced probability"], [(n, f"{r.auc:.3f}", f"{r.cost:.4f}") for n, r in t.iterrows()]))
    if a.price: text.append(table(["price of misjudged sureness", "task, validation part", "log-loss (its networks)", "sureness off by (its networks)"], list(priced(prep, model, a.price))))
    print(*text, sep="\n\n")
    if a.out:
        with open(a.out, "a") as f: f.write("\n\n".join(["", f"## {time.strftime('%Y-%m-%d')}, `python benchmarks/evaluation.py --candles {' '.join(series)} (hourly, {min(c.index[0] for c in series.values()).year} to {max(c.index[-1] for c in series.values()).year})`", *text]) + "\n")
