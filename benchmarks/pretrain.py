"""Does pretraining earn its place? `python benchmarks/pretrain.py --candles FILE...`, hourly series of some years each.

A network is finetuned on the volatility of the next 12 bars with 1 %, 10 % and 100 % of the training windows' labels,
from random weights and from pretrained ones, and probed (its backbone frozen, one linear layer on top). The pretrained
backbone saw all training windows, without labels, and predicted future means
(`--set pretrain.objective=masked_reconstruction` for masked bars). Each row is the mean over the seeds, with the spread
of the seeds; HAR is a logistic regression on past volatilities with the same labels. Everything is scored by log-loss
on the test part, which decided nothing. Early stopping uses the labels of every second window of the
validation part, whatever the share. `--out FILE` appends the table to a file; `--set A.B=VALUE` changes a setting of
`configs/demo.yaml`.
"""
import argparse, os, time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np, torch, yaml
from natron.baselines import baseline_forecasts, parts_of
from natron.calibrate import log_loss
from natron.config import load_config
from natron.dataset import prepare, window_data
from natron.finetune import multitask_loss, predict_windows
from natron.model import new_model
from natron.pretrain import pretrain
from natron.train import fit
from common import read_series, save, table

PATIENCE = {.01: (100, 15), .1: (40, 8), 1.: (8, 2)}  # share of the labels: most epochs, epochs without progress
CPU = torch.device("cpu")


class Some:
    "A share of a data set's windows, evenly spread."
    def __init__(self, data, share):
        self.data, self.idx = data, np.linspace(0, len(data)-1, max(8, round(len(data)*share))).astype(int).tolist()
    def __len__(self): return len(self.idx)
    def __getitems__(self, i): return self.data.__getitems__([self.idx[k] for k in i])


def labels_a_window(cfg): return cfg.data.window_length-1-cfg.model.dense_from


def known_loss(p, y):
    k = ~np.isnan(y)
    return log_loss(p[k], y[k])


def tuned(prep, share, seed, backbone=None, probe=False):
    "Test log-loss of a network finetuned with this share of the labels."
    cfg = prep.config
    how = cfg.model.model_copy(update=dict(head_dims=[])) if probe else cfg.model
    model = new_model(replace(prep, config=cfg.model_copy(update=dict(model=how))))
    if backbone: model.backbone.load_state_dict(backbone)
    train, valid = (window_data(prep, part, True, stride)
                    for part, stride in (("train", cfg.data.stride), ("validation", 2*labels_a_window(cfg))))
    epochs, patience = PATIENCE[share]
    fit(model, multitask_loss(model.tasks, dense=True), Some(train, share), valid,
        cfg.train.model_copy(update=dict(epochs=epochs, patience=patience, layer_decay=float(not probe))), seed,
        device=CPU)
    test = window_data(prep, "test")
    return known_loss(predict_windows(model.eval(), test)["volatility"], test.y[test.ends, 0].numpy())


def baselines(prep, share):
    "Test log-loss of the class priors and of HAR with the same labels."
    data = {p: window_data(prep, p) for p in ("train", "validation", "test")}
    train, valid, test = parts_of(prep, list(data.values()))[0]
    dense = window_data(prep, "train", True, prep.config.data.stride)
    idx = Some(dense, share).idx
    # the labels that those windows bring
    given = {(s, r-k) for s, r in zip(dense.series[idx], dense.rows[idx]) for k in range(labels_a_window(prep.config))}
    some = replace(train, y=np.where([o in given for o in zip(data["train"].series, data["train"].rows)], train.y,
                                     np.nan))
    forecasts = baseline_forecasts(prep.labels.tasks[0], some, valid, test, 0)
    return {k: known_loss(forecasts[k], test.y) for k in ("prior", "har")}


def means(rows):
    "Over the seeds, with their standard deviations."
    return table(["test log-loss of volatility", *(f"{s:.0%} of the labels" for s in PATIENCE)],
                 [[name, *(f"{np.mean(v):.4f}" + (f" ± {np.std(v, ddof=1):.4f}" if len(v) > 1 else "")
                           + (f" ({', '.join(f'{e:.3f}' for e in v)})" if name == "gain" else "") if v else ""
                           for v in by.values())] for name, by in rows.items()])


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--candles", nargs="+", type=Path, required=True)
    a.add_argument("--seeds", type=int, default=3)
    a.add_argument("--set", action="append", default=[], dest="sets")
    a.add_argument("--out", type=Path)
    a = a.parse_args()
    torch.set_num_threads(1)
    start = time.time()
    own = {"labels.tasks": ["volatility"], "data.stride": 24, "model.dropout": .1, "train.tracker": "none",
           "pretrain.objective": "future_mean", "pretrain.epochs": 20, "pretrain.batch_size": 64, "pretrain.lr": .001}
    sets = {k: yaml.safe_load(v) for k, _, v in (s.partition("=") for s in a.sets)}
    prep = prepare(read_series(a.candles),
                   load_config(Path(__file__).parent.parent/"configs/demo.yaml", **own | sets))
    names = ("from random weights", "pretrained", "gain", "linear probe, random", "linear probe, pretrained")
    rows = {n: {s: [] for s in PATIENCE} for n in names}
    for seed in range(a.seeds):
        prep = replace(prep, config=prep.config.model_copy(update=dict(seed=seed, device="cpu")))
        bare = new_model(prep).backbone.state_dict()
        net, history = pretrain(prep)
        net = net.backbone.state_dict()
        print(f"seed {seed}: pretraining loss on validation {history.val_loss.iloc[0]:.3f} to "
              f"{history.val_loss.min():.3f}, {history.seconds.sum():.0f} s", flush=True)
        for share in PATIENCE:
            got = [tuned(prep, share, seed, *how) for how in ((), (net,), (bare, True), (net, True))]
            for n, v in zip(names, (*got[:2], got[0]-got[1], *got[2:])): rows[n][share].append(v)
            print(f"seed {seed}, {share:.0%}:", *(f"{n} {rows[n][share][-1]:.4f}" for n in names), flush=True)
    for share in PATIENCE:
        for k, v in baselines(prep, share).items():
            rows.setdefault({"har": "HAR", "prior": "prior"}[k], {s: [] for s in PATIENCE})[share].append(v)
    c = prep.config
    what = (f"{c.pretrain.mask:.0%} masked in spans of {c.pretrain.span}"
            if c.pretrain.objective == "masked_reconstruction" else f"{c.pretrain.span} bars")
    text = [f"{len(prep.series)} series, {sum(s.train.stop-s.train.start for s in prep.splits):,} training bars, "
            f"{len(window_data(prep, 'train', True, c.data.stride)):,} windows; {a.seeds} seeds; "
            f"pretraining {c.pretrain.epochs} epochs, {c.pretrain.objective}, {what}, contrastive weight "
            f"{c.experimental.contrastive_weight:g}; {(time.time()-start)/60:.0f} minutes on one core", means(rows)]
    print(*text, sep="\n\n")
    save(a.out, text)
