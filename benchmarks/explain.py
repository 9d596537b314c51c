"""Which explanation tells the truth about a network of real size:
`python benchmarks/explain.py --candles FILE... --model FILE`, the candles that it was trained on and later ones.

On windows of the test part, evenly spread: how fast the answer goes when what counts most by integrated gradients, by
attention, by age or by chance is replaced first; how far attention agrees with the attributions, beside what the
attributions of another baseline, those of another window, the attention of another window and "newer counts more"
reach; how often the nearest earlier windows had the present's answer; and how long each method takes. `--windows N`
says how many windows, `--out FILE` appends the tables to a file.
"""
import argparse, os
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np, torch
from natron.bundle import load_bundle
from natron.config import load_config
from natron.dataset import window_data
from natron.explain import (agreement, attention_rollout, attention_maps, attributions, deletion_areas, deletion_curves,
                            embeddings, group_importance, nearest_windows, nearest, window_at)
from natron.finetune import prepare_for
from natron.model import build_model
from common import cpu_times, read_series, save, span_of, table

SEEDS = 3


def areas(model, data, tasks, n):
    "The mean and range over the seeds of the area under each deletion curve."
    for task in tasks:
        for by in ("feature", "bar"):
            a = [deletion_areas(deletion_curves(model, data, task, by, n, seed)) for seed in range(SEEDS)]
            yield (task, by, *(f"{np.mean([o[k] for o in a]):.3f} "
                               f"({min(o[k] for o in a):.3f} to {max(o[k] for o in a):.3f})" if k in a[0] else ""
                               for k in ("integrated gradients", "attention", "newest first", "random")))


def from_another(model, window, other, task, class_name):
    "Attributions (T,F) that begin at another window: the network is asked about the way from there."
    class Shifted(torch.nn.Module):
        tasks = model.tasks
        def __init__(self):
            super().__init__()
            self.model, self.base = model, torch.nn.Parameter(torch.as_tensor(other.x))
        def forward(self, x, *rest): return self.model(x + self.base, *rest)
    return attributions(Shifted().eval(), SimpleNamespace(**vars(window) | dict(x=window.x - other.x)), task,
                        class_name)


def agreements(model, data, tasks, n):
    "Rank correlations over bars with the attributions of the same window: quartiles over the windows."
    at = np.linspace(0, len(data)-1, n).astype(int)
    ws = [window_at(data, int(i)) for i in at]
    reach = [attention_rollout(model, w) for w in ws]
    shift = n//3
    for task in tasks:
        classes = next(t.classes for t in model.tasks if t.name == task)
        with torch.no_grad(): top = [classes[int(model(**data.inputs([int(i)]))[task][0].argmax())] for i in at]
        attr = [attributions(model, w, task, c) for w, c in zip(ws, top)]
        size = [np.abs(a).sum(1) for a in attr]
        kinds = {"attention": lambda i: agreement(reach[i], attr[i]),
                 "attributions from another baseline": lambda i: agreement(
                     np.abs(from_another(model, ws[i], ws[(i+shift) % n], task, top[i])).sum(1), attr[i]),
                 "attributions of another window": lambda i: agreement(size[(i+shift) % n], attr[i]),
                 "attention of another window": lambda i: agreement(reach[(i+shift) % n], attr[i]),
                 "newer counts more": lambda i: agreement(np.arange(len(size[i])), attr[i])}
        first = np.mean([l.argmax() == s.argmax() for l, s in zip(reach, size)])
        for k, f in kinds.items():
            r = np.array([f(i) for i in range(n)])
            yield (task, k, *(f"{np.quantile(r, q):+.2f}" for q in (.25, .5, .75)), f"{(r < .6).mean():.0%}",
                   f"{first:.0%}" if k == "attention" else "")


def neighbours(model, prep, tasks, stride, n):
    "How often five earlier windows, the nearest by each distance, had the same label."
    before, data = window_data(prep, "train", stride=stride), window_data(prep, "test")
    at = np.linspace(0, len(data)-1, n).astype(int)
    last = lambda d, rows: torch.cat([d.inputs(rows[i:i+256])["x"][:, -1] for i in range(0, len(rows), 256)]).numpy()
    with torch.no_grad(): now = np.concatenate([model(**data.inputs([int(i)]))["embedding"].numpy() for i in at])
    ways = {"embedding": (embeddings(model, before), now),
            "last bar's features": (last(before, np.arange(len(before))), last(data, at))}
    then, here, rows = before.y[before.ends].numpy(), data.y[data.ends[at]].numpy(), before.ends.numpy()
    names = [t.name for t in model.tasks]
    for task in tasks:
        k = names.index(task)
        C = len(next(t.classes for t in model.tasks if t.name == task))
        share = lambda y: np.bincount(y[~np.isnan(y)].astype(int), minlength=C)/(~np.isnan(y)).sum()
        hit = {w: np.mean([(then[nearest(b, a, 5, before.window, rows).row, k] == y).mean()
                           for b, y in zip(own, here[:, k]) if y == y]) for w, (a, own) in ways.items()}
        yield (task, *(f"{h:.3f}" for h in hit.values()), f"{share(then[:, k]) @ share(here[:, k]):.3f}")


def seconds(f, times):
    "Processor seconds, the median of so many runs after one that does not count."
    return f"{np.median(cpu_times(f, times)):.4f}"


def speeds(model, prep, data, task):
    """Processor seconds of each method, for the given model and, where a window is enough, for an untrained one
    of the default configuration."""
    cfg = load_config()
    big = build_model(cfg.model, len(prep.columns), model.tasks, data.window).eval()
    w = window_at(data, len(data)//2)
    before = window_data(prep, "train", stride=96)
    groups = window_data(prep, "validation", stride=96)
    yield "attention maps", *(seconds(lambda: attention_maps(m, w), 20) for m in (model, big))
    yield "rollout", *(seconds(lambda: attention_rollout(m, w), 20) for m in (model, big))
    for steps in (16, 32, 64):
        yield (f"attributions, {steps} points",
               *(seconds(lambda: attributions(m, w, task, steps=steps), 5) for m in (model, big)))
    yield "deletion curves by bar, a window", seconds(lambda: deletion_curves(model, data, task, "bar", 1), 5), ""
    yield (f"nearest windows among {len(before):,}",
           seconds(lambda: nearest_windows(model, w, data.times[len(data)//2], before), 3), "")
    yield (f"group importance, {len(groups):,} windows",
           seconds(lambda: group_importance(prep, model, task, stride=96), 1), "")


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--candles", nargs="+", type=Path, required=True)
    a.add_argument("--model", type=Path, required=True)
    a.add_argument("--windows", type=int, default=100)
    a.add_argument("--out", type=Path)
    a = a.parse_args()

    torch.set_num_threads(1)
    series = read_series(a.candles)
    bundle = load_bundle(a.model)
    model = bundle.model()
    prep = prepare_for(bundle, series)
    data = window_data(prep, "test")
    tasks = [t.name for t in model.tasks if t.kind == "forecast" and t.classes]
    worth = group_importance(prep, model, tasks[0], stride=24)
    text = [f"```\n{bundle}\n```", span_of(series),
            f"Test part: {data.times.min():%Y-%m-%d} to {data.times.max():%Y-%m-%d}, "
            f"{len(data):,} windows of {len(series)} series, of which {a.windows} were explained.",
            table([f"deletion, area (range of {SEEDS} draws)", "replaced", "integrated gradients", "attention",
                   "newest first", "random"], areas(model, data, tasks, a.windows)),
            table(["agreement with the attributions", "of", "lower quartile", "median", "upper quartile", "below 0.6",
                   "same first bar"], agreements(model, data, tasks, a.windows)),
            table(["five nearest training windows had the same label", "by embedding", "by the last bar's features",
                   "chance"], neighbours(model, prep, tasks, 12, 3*a.windows)),
            table([f"log-loss of {tasks[0]} gained by permuting a group, validation part", "more", "low", "high"],
                  [(g, *(f"{v:+.4f}" for v in r)) for g, r in worth.iterrows()]),
            table(["processor seconds, median, one core", "this model", "default configuration, untrained"],
                  speeds(model, prep, data, tasks[0]))]
    print(*text, sep="\n\n")
    save(a.out, text)
