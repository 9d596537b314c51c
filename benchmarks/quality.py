"""How good it gets on real series, and which of its options helped:
`python benchmarks/quality.py --candles FILE... --keep DIR`.

Every variant is a few changed settings of `configs/cpu.yaml`, with tasks of its own unless it is that file itself. Each
is trained with several seeds and compared by the log-loss of volatility on the validation part, every fourth bar of it,
which is all that may choose. `--test VARIANT...` then looks at the test part: at the ensembles of those variants'
networks, at each network, and at HAR, logistic regression and LightGBM, fitted on the same bars and columns of all
series together. Differences are paired, with intervals from blocks of five trading days. `--unseen NAME...` leaves
markets out of the training and tests on those alone. `--keep DIR` keeps every trained network, so that a further
variant costs only itself; `--only VARIANT...` limits the variants, `--out FILE` appends the tables to a file.
"""
import argparse, os, re, time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np, torch, yaml
from natron.baselines import Trees, baseline_forecasts, parts_of
from natron.calibrate import log_loss
from natron.core import atomic_write
from natron.config import load_config
from natron.dataset import resume_key, make_series, prepare, window_data
from natron.splits import Splits, split_series
from natron.metrics import score_table
from natron.features import feature_frame
from natron.markets import join_markets
from natron.finetune import finetune, predict_windows
from natron.model import new_model
from natron.pretrain import pretrain
from common import check_kept, read_series, save, table

CPU = Path(__file__).parent.parent/"configs/cpu.yaml"
ALONE, WET, MARKETS, TEMPORAL = ({"labels.tasks": ["volatility"]}, {"model.dropout": .3}, {"markets": True},
                                 {"model.backbone": "temporal", "model.windows": [20, 0]})
FOUR = {"labels.tasks": ["volatility", "regime", "state", "direction"], "labels.regime_when": "ahead",
        "labels.weights": {"regime": .3, "state": .3, "direction": .3}}  # `configs/cpu.yaml` until 2026-11-29
PRETRAINED = {"pretrain.epochs": 8, "pretrain.batch_size": 64, "pretrain.lr": .001}
VARIANTS = {
    "volatility alone, dropout 0.3": ALONE | WET,
    "three forecasts, dropout 0.3": WET | {"labels.tasks": ["volatility", "state", "direction"]},
    "alone, dropout 0.3, other markets": ALONE | WET | MARKETS,
    "three forecasts, dropout 0.3, other markets":
        WET | MARKETS | {"labels.tasks": ["volatility", "state", "direction"]},
    "alone, dropout 0.3, other markets, pretrained": ALONE | WET | MARKETS | PRETRAINED,
    "alone, dropout 0.3, other markets, temporal": ALONE | WET | MARKETS | TEMPORAL,
    "alone, dropout 0.1, other markets": ALONE | MARKETS | {"seeds": 6},
    "alone, dropout 0.1, other markets, adversarial": ALONE | MARKETS | {"experimental.adversarial_epsilon": .02},
    "alone, dropout 0.1, other markets, hybrid": ALONE | MARKETS | {"model.backbone": "hybrid"},
    "alone, dropout 0.1, other markets, temporal, windows of 192 bars":
        ALONE | MARKETS | TEMPORAL | {"data.window_length": 192, "data.stride": 48},
    "alone, dropout 0.1, other markets, temporal, pretrained on future means":
        ALONE | MARKETS | TEMPORAL | PRETRAINED | {"pretrain.epochs": 20, "pretrain.objective": "future_mean"},
    "four forecasts, dropout 0.1, volatility weighs three times": FOUR,
    "four forecasts and the term structure of volatility, dropout 0.1 (cpu.yaml)": {},
    "alone, dropout 0.1, other markets, temporal (full.yaml)": ALONE | MARKETS | TEMPORAL | {"seeds": 6},
}


def trained(prep, folder):
    "The network of this seed and its forecasts on the validation part, trained or read from its file."
    path, of = (folder/f"{prep.config.seed}.pt",
                resume_key(prep) | {"seed": prep.config.seed, "train": str(prep.config.train.model_dump())})
    if not path.exists():
        start = time.process_time()
        backbone = pretrain(prep)[0].backbone.state_dict() if prep.config.pretrain.epochs else None
        model, history = finetune(prep, backbone=backbone)
        seconds = time.process_time() - start
        forecasts = torch.from_numpy(predict_windows(model, window_data(prep, "validation", stride=4))["volatility"])
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as tmp:
            torch.save(dict(of=of, weights=model.state_dict(), validation=forecasts, seconds=seconds,
                            epochs=len(history)), tmp)
    kept = torch.load(path, weights_only=True)
    model = new_model(prep)
    check_kept(path, kept["of"], of)
    model.load_state_dict(kept["weights"])
    return model.eval(), kept


def validation_loss(prep, p):
    "Of volatility on the validation part."
    data = window_data(prep, "validation", stride=4)
    y = data.y[data.ends, [t.name for t in prep.labels.tasks].index("volatility")].numpy()
    k = ~np.isnan(y)
    return log_loss(p[k], y[k])


def tested_elsewhere(prep, candles):
    "The same training and validation rows, and as test part that of markets which taught nothing."
    frames = [feature_frame(c, prep.config.features, prep.config.labels.volatility_horizon) for c in candles.values()]
    more = make_series(candles, frames, prep.labels, prep.scaler, prep.instruments, prep.timeframes)
    none = slice(0, 0)
    times = [s.times for s in (*prep.series, *more)]
    horizon = max(t.horizon for t in prep.labels.tasks)
    ends = split_series(times, prep.config.data, horizon)[len(prep.series):]
    splits = [replace(s, test=none) for s in prep.splits] + [Splits(none, none, s.test) for s in ends]
    return replace(prep, series=[*prep.series, *more], splits=splits)


def tested(prep, models, title):
    "The ensemble, its members and the baselines on the test part, task by task."
    every, out = [window_data(prep, q) for q in ("train", "validation", "test")], []
    data = every[-1]
    members, parts, trees = [predict_windows(m, data) for m in models], parts_of(prep, every), Trees(prep, every)
    for k, task in enumerate(prep.labels.tasks):
        if not task.classes or task.role in ("entry_long", "entry_short"): continue
        y = data.y[data.ends, k].numpy()
        ensemble = np.mean([m[task.name] for m in members], 0)
        base = baseline_forecasts(task, *parts[k], 0, trees)
        def row(name, p):
            r = score_table(task, y, {"ensemble": ensemble, name: p} if name != "ensemble" else {name: p},
                            data.times, prep.config.evaluate, 0)
            s = r.loc[name]
            e = r.loc["ensemble"]
            score = lambda m: f"{s[m]:.4f} [{s[f'{m}_low']:.4f}, {s[f'{m}_high']:.4f}]"
            return (name, score("log_loss"), score("accuracy"), f"{s.ece:.4f}",
                    score("side_auc") if "side_auc" in s else "",
                    f"{e['diff']:+.4f} [{e.diff_low:+.4f}, {e.diff_high:+.4f}]" if name != "ensemble" else "")
        rows = [row(n, p) for n, p in {"ensemble": ensemble,
                                       **{f"network {i}": m[task.name] for i, m in enumerate(members)},
                                       **base}.items()]

        known = ~np.isnan(y)
        spread = np.std([m[task.name] for m in members], 0).max(1)[known]
        cost = -np.log(ensemble[known, y[known].astype(int)])
        wide = spread > np.median(spread)
        out.append(table([f"{title}: {task.name}", "log-loss", "accuracy", "ECE", "UP against DOWN, AUC",
                          "the ensemble's log-loss less this"], rows))
        if len(models) > 1:
            out.append("Where the networks disagree more than usual the ensemble's log-loss is "
                       f"{cost[wide].mean():.3f}, elsewhere {cost[~wide].mean():.3f}.")
    return out


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--candles", nargs="+", type=Path, required=True)
    a.add_argument("--keep", type=Path, required=True)
    a.add_argument("--seeds", type=int, default=3)
    a.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    a.add_argument("--test", nargs="+", choices=VARIANTS, default=[])
    a.add_argument("--out", type=Path)
    a.add_argument("--unseen", nargs="+", default=[], metavar="NAME",
                   help="series that teach nothing and are tested in the others' place")
    a = a.parse_args()
    torch.set_num_threads(1)
    if missed := set(a.test) - set(a.only): raise SystemExit(f"--test {missed} is not among --only")

    plain = read_series(a.candles)
    joined, rows, test = join_markets(plain), [], []
    for name in a.only:
        sets = dict(VARIANTS[name])
        seeds = sets.pop("seeds", a.seeds)
        series = joined if sets.pop("markets", False) else plain
        base = yaml.safe_load(CPU.read_text())
        if any(k.startswith("labels.") for k in sets): del base["labels"]
        cfg = load_config(**base, **{"train.tracker": "none", "train.members": 1, "device": "cpu"} | sets)
        prep = prepare({n: c for n, c in series.items() if n not in a.unseen}, cfg)
        models, kept = zip(*(trained(replace(prep, config=cfg.model_copy(update=dict(seed=s))),
                                     a.keep/re.sub(r"\W+", "_", name)) for s in range(seeds)))

        forecasts = [k["validation"].numpy() for k in kept]
        each = [validation_loss(prep, p) for p in forecasts]
        together = [validation_loss(prep, np.mean(forecasts[:k], 0))
                    for k in sorted({3, seeds} & set(range(seeds+1)))]
        rows.append((name, f"{np.mean(each):.4f}", " ".join(f"{e:.4f}" for e in each),
                     ", ".join(f"{o:.4f}" for o in together), f"{np.mean([k['seconds'] for k in kept]):.0f}",
                     " ".join(str(k["epochs"]) for k in kept)))
        print(rows[-1], flush=True)
        if name in a.test:
            test += tested(tested_elsewhere(prep, {n: series[n] for n in a.unseen}) if a.unseen else prep, models, name)

    text = [f"{len(plain)} series, {sum(map(len, plain.values())):,} bars; one core"
            + (f"; {', '.join(a.unseen)} taught nothing and were tested" if a.unseen else ""),
            table(["validation part", "log-loss, mean", "seeds", "of three, of all", "processor seconds a seed",
                   "epochs"], rows), *test]
    print(*text, sep="\n\n")
    save(a.out, text)
