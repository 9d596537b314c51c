"""Calibration on real series: `python benchmarks/evaluation.py --candles FILE... [--model FILE]`,
hourly series of some years each.

A model of `configs/cpu.yaml` is trained on the series, or one that was trained on them is given, whose test part is
what comes after its fitted bars. On the test part, which decided nothing: calibration of every head, raw and
calibrated; coverage of the conformal prediction sets, fixed, adaptive and class-conditional; selective accuracy and
confidence calibration error. `--penalty W...` trains the same networks again, with that weight of the Brier confidence
penalty in the loss (`experimental.confidence_penalty`), and compares them on the validation part alone. `--out FILE`
appends the tables to a file. Four sources of confidence inside a network are compared in
`nbs/experiments/confidence.ipynb`.
"""
import argparse, os, time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np, pandas as pd, torch
from natron.bundle import load_bundle
from natron.calibrate import calibrate, calibrated_probs, log_loss
from natron.config import load_config, with_settings
from natron.dataset import prepare, window_data
from natron.metrics import class_scores, class_sums
from natron.finetune import finetune, predict_windows, prepare_for
from natron.evaluate import TaskForecasts, task_forecasts
from natron.model import Ensemble
from natron.report import class_table, confidence_error, confidence_table
from common import read_series, save, span_of, table

ASKED = dict(ece="0.03 on average, 0.05 at most", coverage_90="88 to 92 %",
             selective_accuracy_20="10 points above all", confidence_error="0.05")


def heads(prep, model, how):
    "ECE, Brier score and log-loss of each head on the test part, raw and calibrated."
    data = window_data(prep, "test")
    raw = predict_windows(model, data)
    for k, t in enumerate(prep.labels.tasks):
        if not t.classes: continue
        y = data.y[data.ends, k].numpy()
        known = ~np.isnan(y)
        probs = raw[t.name], calibrated_probs(raw[t.name], how.get(t.name))
        s = [class_scores(class_sums(y[known], p[known]).sum(0, dtype=float), len(t.classes)) for p in probs]
        yield t.name, how[t.name].method, *(float(o[m]) for m in ("ece", "brier", "log_loss") for o in s)


def penalised(prep, model, weights):
    """Log-loss and calibration error on every fourth window of the validation part, uncalibrated: of the ensemble,
    and of its networks in order; a row a weight and task."""
    data, tried = window_data(prep, "validation", stride=4), prep.config.experimental
    for w in (0., *weights):
        cfg = prep.config.model_copy(update=dict(experimental=tried.model_copy(update=dict(confidence_penalty=w))))
        net = finetune(replace(prep, config=cfg))[0] if w else model
        members = [predict_windows(m, data) for m in (net.members if isinstance(net, Ensemble) else [net])]
        for k, t in enumerate(prep.labels.tasks):
            if not t.classes: continue
            y = data.y[data.ends, k].numpy()
            known = ~np.isnan(y)
            probs = [np.mean([m[t.name] for m in members], 0)[known], *(m[t.name][known] for m in members)]
            rows = [TaskForecasts(t, y[known], {"model": p}, data.times[known], None, None,
                                  pd.DataFrame(dict(confidence=p.max(1)))) for p in probs]
            both = [log_loss(p, y[known]) for p in probs], [confidence_error(r) for r in rows]
            yield f"{w:g}", t.name, *(f"{o[0]:.4f} ({', '.join(f'{v:.4f}' for v in sorted(o[1:]))})" for o in both)


def measured(prep, model, weights):
    "The tables, as markdown."
    cfg, start = prep.config, time.process_time()
    how = calibrate(prep, model)
    took = time.process_time()-start
    rows, forecasts = list(heads(prep, model, how)), task_forecasts(prep, model, how, True)
    confidence, classes, f = confidence_table(forecasts, cfg.evaluate, cfg.seed), class_table(forecasts), forecasts[0]
    ece = [r[3] for r in rows]
    yield (f"Test part: {f.times.min():%Y-%m-%d} to {f.times.max():%Y-%m-%d}, {len(f.y):,} windows of "
           f"{len(prep.series)} series; calibration took {took:.0f} s of one core.")
    yield table(["head", "method", "ECE, raw", "calibrated", "Brier, raw", "calibrated", "log-loss, raw", "calibrated"],
                [(*r[:2], *(f"{v:.4f}" for v in r[2:])) for r in rows])
    yield f"ECE of the calibrated heads: {np.mean(ece):.4f} on average, {max(ece):.4f} at most (asked {ASKED['ece']})."
    yield table(["task", "accuracy", f"selective accuracy at 20 % coverage (asked {ASKED['selective_accuracy_20']})",
                 f"confidence calibration error (asked {ASKED['confidence_error']})", "coverage of 80 % sets",
                 "adaptive (ACI)", f"coverage of 90 % sets (asked {ASKED['coverage_90']})", "adaptive (ACI)",
                 "size of 90 % sets"],
                [(n, f"{r.accuracy:.3f}", f"{r.selective_accuracy_20:.3f}", f"{r.confidence_error:.4f}",
                  *(f"{r[k]:.3f}"
                    for k in ("coverage_80", "coverage_80_adaptive", "coverage_90", "coverage_90_adaptive")),
                  f"{r.set_size_90:.2f}") for n, r in confidence.iterrows()])
    kinds = ("share", "recall", "coverage_90", "coverage_90_adaptive", "coverage_90_by_class")
    yield table(["task", "class", "share", "recall", "coverage of 90 % sets", "adaptive (ACI)", "class-conditional"],
                [(*n, *(f"{r[k]:.3f}" for k in kinds)) for n, r in classes.iterrows()])
    yield table(["task", "coverage of class-conditional 90 % sets", "set size", "size of marginal sets"],
                [(n, f"{r.coverage_90_by_class:.3f}", f"{r.set_size_90_by_class:.2f}", f"{r.set_size_90:.2f}")
                 for n, r in confidence.iterrows()])
    if weights:
        yield table(["confidence penalty", "task, validation part", "log-loss (its networks)",
                     "calibration error (its networks)"], list(penalised(prep, model, weights)))


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--candles", nargs="+", type=Path, required=True)
    a.add_argument("--model", type=Path)
    a.add_argument("--penalty", nargs="+", type=float, default=[])
    a.add_argument("--out", type=Path)
    a = a.parse_args()
    torch.set_num_threads(1)
    series, here = read_series(a.candles), {"train.tracker": "none", "device": "cpu"}
    if a.model:
        bundle = load_bundle(a.model)
        prep, model = prepare_for(bundle, series), bundle.model()
        prep = replace(prep, config=with_settings(prep.config, **here))
    else:
        prep = prepare(series, load_config(Path(__file__).parent.parent/"configs/cpu.yaml", **here))
        model = finetune(prep)[0]
    text = [span_of(series), *measured(prep, model, a.penalty)]
    print(*text, sep="\n\n")
    save(a.out, text)
