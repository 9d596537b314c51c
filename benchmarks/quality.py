"""How good it gets on real series, and which of its options helped: `python benchmarks/quality.py --candles FILE... --keep DIR`.

Every variant is a few changed settings of `configs/demo.yaml`. Each is trained with several seeds and judged on the validation part, which is all that may choose; `--test VARIANT` then looks at the test part
once, with the ensemble of that variant's seeds beside its members and beside HAR, logistic regression and LightGBM that are fitted on the same series together. Differences are paired, with intervals from blocks of five trading days.
`--keep DIR` keeps every trained member's probabilities, so that a further variant costs only itself; `--only VARIANT...` limits the variants, `--out FILE` appends the tables to a file.
"""
import argparse, os, time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np, torch
from natron.candles import read_candles
from natron.core import load_config
from natron.dataset import prepare, window_data
from natron.evaluate import baseline_forecasts, part_of, score_table
from natron.finetune import finetune, predict_windows
from natron.pretrain import pretrain

DEMO = Path(__file__).parent.parent/"configs/demo.yaml"
BASE = {"train.tracker": "none", "train.epochs": 8, "train.patience": 2, "data.stride": 12}
ALONE = {"labels.tasks": ["volatility"]}
VARIANTS = {
    "demo.yaml, all tasks": {},
    "volatility alone": ALONE,
    "volatility and its logarithm": {"labels.tasks": ["volatility", "log_volatility"]},
    "alone, dropout 0.1": ALONE | {"model.dropout": .1},
    "alone, windows of 192": ALONE | {"data.window_length": 192},
    "alone, 128 wide": ALONE | {"model.d_model": 128, "model.ffn": 512},
    "alone, pretrained": ALONE | {"pretrain.epochs": 8, "pretrain.batch_size": 64, "pretrain.lr": .001},
    "alone, temporal": ALONE | {"model.backbone": "temporal", "model.windows": [20, 0]},
    "alone, hybrid": ALONE | {"model.backbone": "hybrid"},
}


def trained(prep, folder):
    "Probabilities of volatility at every validation and test window, from a network of this seed; kept in a file."
    path = folder/f"{prep.config.seed}.npz"
    if not path.exists():
        backbone = pretrain(prep)[0].backbone.state_dict() if prep.config.pretrain.epochs else None
        start = time.time(); model, history = finetune(prep, backbone=backbone)
        said = {p: predict_windows(model, window_data(prep, p))["volatility"] for p in ("validation", "test")}
        folder.mkdir(parents=True, exist_ok=True); np.savez(path, **said, seconds=time.time()-start, epochs=len(history))
    return np.load(path)


def answers(prep, part):
    data = window_data(prep, part); k = [t.name for t in prep.labels.tasks].index("volatility")
    return data.y[data.ends, k].numpy(), data.times


def log_loss(y, p): k = ~np.isnan(y); return float(-np.log(np.clip(p[k, y[k].astype(int)], 1e-12, 1)).mean())


def table(head, rows): return "\n".join("| " + " | ".join(map(str, r)) + " |" for r in (head, ["---"]*len(head), *rows))


def judged(prep, members, keep):
    "The ensemble and its members on the test part, beside the baselines."
    k = [t.name for t in prep.labels.tasks].index("volatility"); task = prep.labels.tasks[k]; y, times = answers(prep, "test")
    path = keep/"baselines.npz"
    if not path.exists(): np.savez(path, **{n: p for n, p in baseline_forecasts(task, *(part_of(prep, window_data(prep, q), k) for q in ("train", "validation", "test")), 0).items()})
    base = dict(np.load(path)); ensemble = np.mean([m["test"] for m in members], 0); rows = []
    for name, p in {"ensemble": ensemble, **{f"member {i}": m["test"] for i, m in enumerate(members)}, **base}.items():
        r = score_table(task, y, {name: p}, times, prep.config.evaluate, 0).iloc[0]
        d = score_table(task, y, {"ensemble": ensemble, name: p}, times, prep.config.evaluate, 0).iloc[0] if name != "ensemble" else None
        rows.append((name, f"{r.log_loss:.4f}", f"{r.accuracy:.4f}", f"{r.ece:.4f}", "" if d is None else f"{d['diff']:+.4f} [{d.diff_low:+.4f}, {d.diff_high:+.4f}]"))
    spread = np.std([m["test"] for m in members], 0).max(1); known = ~np.isnan(y); wrong = -np.log(ensemble[known, y[known].astype(int)]); wide = spread[known] > np.median(spread[known])
    return table(["test part", "log-loss", "accuracy", "ECE", "ensemble less this"], rows) + f"\n\nWhere the members disagree more than usual the ensemble's log-loss is {wrong[wide].mean():.3f}, elsewhere {wrong[~wide].mean():.3f}."


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__); a.add_argument("--candles", nargs="+", type=Path, required=True); a.add_argument("--keep", type=Path, required=True); a.add_argument("--seeds", type=int, default=3)
    a.add_argument("--only", nargs="+", choices=VARIANTS); a.add_argument("--test", choices=VARIANTS); a.add_argument("--out", type=Path); a = a.parse_args(); torch.set_num_threads(1)
    series, rows = {p.name.split(".")[0]: read_candles(p) for p in a.candles}, []
    for name in a.only or VARIANTS:
        prep = prepare(series, load_config(DEMO, **BASE | VARIANTS[name])); folder = a.keep/name.replace(" ", "_").replace(",", "")
        members = [trained(replace(prep, config=prep.config.model_copy(update=dict(seed=s, device="cpu"))), folder) for s in range(a.seeds)]
        y, _ = answers(prep, "validation"); each = [log_loss(y, m["validation"]) for m in members]
        rows.append((name, f"{np.mean(each):.4f}", f"{min(each):.4f} - {max(each):.4f}", f"{log_loss(y, np.mean([m['validation'] for m in members], 0)):.4f}", f"{np.mean([m['seconds'] for m in members]):.0f}", ", ".join(str(m["epochs"]) for m in members)))
        print(rows[-1], flush=True)
        if name == a.test: test = judged(prep, members, a.keep)
    text = [f"{len(series)} series, {sum(map(len, series.values())):,} bars; {a.seeds} seeds; one core", table(["validation part", "log-loss of a seed", "seeds", "of the ensemble", "seconds a seed", "epochs"], rows)] + ([f"Chosen: {a.test}.", test] if a.test else [])
    print(*text, sep="\n\n")
    if a.out:
        with open(a.out, "a") as f: f.write("\n\n".join(["", f"## {time.strftime('%Y-%m-%d')}, `python benchmarks/quality.py`", *text]) + "\n")
