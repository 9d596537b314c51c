"""What a GPU gains, in one command of eight minutes: `python benchmarks/gpu.py`.

Training steps (gather, forward, backward, clip, AdamW) of finetuning and pretraining for the three backbones, beside
what the same device does in a plain product of matrices; the torch indicators beside the device's copy bandwidth;
forecasts one by one and by the thousand; and whether the device learns what the CPU learns: the same losses over 100
steps. Medians throughout; candles are simulated.

`--small` does all of it with little data, on any machine, to see that it works. What a GPU did is appended to
`benchmarks/results/gpu.md`, or to `--out`; a small run, or one without a GPU, is only printed.
"""
import argparse, copy, time
from pathlib import Path

import numpy as np, torch
from torch.utils.flop_counter import FlopCounterMode
from natron.candles import simulate_candles
from natron.config import ABILITIES, load_config, with_settings
from natron.dataset import prepare, window_data
from natron.engine import TorchEngine
from natron.finetune import multitask_loss
from natron.model import new_model
from natron.pretrain import Pretrainer, Unlabelled, pretrain_loss
from natron.train import Run
from common import cpu_name, save, table
from indicators import OURS, everything, market

CONFIGS = Path(__file__).parent.parent/"configs"
EPOCH = 345_600                                       # windows of six hourly series of ten years
TINY = {"model.d_model": 32, "model.heads": 4, "model.ffn": 64, "model.head_dims": [32]}
UNDRAWN = {"model.dropout": 0.0, "train.lr": 1e-3}    # for the comparison with the CPU: nothing is drawn


def wait():
    if torch.cuda.is_available(): torch.cuda.synchronize()


def median(f, seconds, least=3):
    "Median seconds of a call, after two that do not count."
    for _ in range(2): f()
    took, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < least:
        wait()
        start = time.perf_counter()
        f()
        wait()
        took.append(time.perf_counter() - start)
    return float(np.median(took))


def matmul_rate(device, dtype, n, seconds):
    "Operations a second of a product of square matrices."
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2*n**3/median(lambda: a @ b, seconds)


def settings(name, small, **more):
    "A full configuration in bf16, or a small network of the same kind."
    cfg = load_config(CONFIGS/f"{name}.yaml", **{"train.precision": "bf16"} | more)
    if not small: return cfg
    windows = [20, 0] if ABILITIES[cfg.model.backbone].layer_windows else []
    return with_settings(cfg, **TINY, **{"model.layers": 2, "model.windows": windows})


def operations(net, loss, window):
    "Of one training step: three times those of a forward pass and its loss, as PyTorch counts them."
    meta = {k: v.to("meta") for k, v in window.items()}    # shapes only, and no kernel that the counter does not know
    with torch.no_grad(), FlopCounterMode(display=False) as flops: loss(copy.deepcopy(net).to("meta").train(), meta)
    return 3*flops.get_total_flops()


def training_step(prep, phase, batch, device, compiled):
    "A function that takes one step of a phase on the next windows, and the operations for a window."
    cfg, model = prep.config, new_model(prep)
    dense = cfg.model.supervision == "dense" and phase == "finetune"
    data = window_data(prep, "train", dense)
    if phase == "pretrain": net, loss, data = Pretrainer(model, cfg), pretrain_loss, Unlabelled(data)
    else: net, loss = model, multitask_loss(model.tasks, dense)
    work = operations(net, loss, data.__getitems__([0]))
    if compiled: net.compile() if phase == "finetune" else model.backbone.compile()
    run = Run(net, loss, cfg.train, cfg.seed, device)
    run.net.train()
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    batches = [order[i:i+batch] for i in range(0, len(order)-batch+1, batch)]
    turn = iter(range(10**9))
    return lambda: run.step(data, [batches[next(turn) % len(batches)]], 0, 0)[0], work


def training_rows(args, device):
    "Throughput of both phases for the three backbones."
    rate = matmul_rate(device, torch.bfloat16, 256 if args.small else 8192, args.seconds/4)
    rows, candles = [], {"SIM": simulate_candles(args.bars, seed=1)}
    for name in ("natron", "temporal", "hybrid"):
        prep = prepare(candles, settings(name, args.small))
        cfg = prep.config
        for phase in ("finetune", "pretrain"):
            for compiled in (False, True):
                step, work = training_step(prep, phase, args.batch, device, compiled)
                took = median(step, args.seconds)
                used = work*args.batch/took
                rows.append((cfg.model.backbone, phase, "compiled" if compiled else "eager", f"{args.batch:,}",
                             f"{args.batch/took:,.0f}", f"{EPOCH*took/args.batch:.1f}", f"{used/1e12:.2f}",
                             f"{used/rate:.0%}"))
                print(*rows[-1], flush=True)
    return rows, rate


def indicator_rows(args, device):
    "The torch indicators, one by one and all six, and the device's copy bandwidth."
    candles = {k: v.to(device) for k, v in market(args.symbols, args.bars_each, torch.float32).items()}
    took = {k: median(lambda: f(candles), args.seconds/4) for k, f in OURS.items()}
    took["all six"] = median(lambda: everything(candles), args.seconds/4)
    x = torch.ones(2**22 if args.small else 2**28, device=device)
    y = torch.empty_like(x)
    bandwidth = 2*x.nbytes/median(lambda: y.copy_(x), args.seconds/4)
    return [(k, f"{v*1e3:.2f}", f"{args.symbols*args.bars_each/v/1e6:,.0f}") for k, v in took.items()], bandwidth


def forecast_rows(args, device):
    "Milliseconds of one forecast of the full-size network, and forecasts a second in batches."
    prep = prepare({"SIM": simulate_candles(4000, seed=1)}, settings("natron", args.small, **{"train.precision": "no"}))
    model = new_model(prep).eval()
    rows, T, F = [], prep.config.data.window_length, len(prep.columns)
    for batch in (1, 64 if args.small else 1024):
        x, mask = np.zeros((batch, T, F), np.float32), np.ones((batch, T, F), bool)
        names = np.zeros((2, batch), np.int64)
        engine = TorchEngine(model, device)
        took = median(lambda: engine(x, mask, *names), args.seconds/4)
        rows.append((f"{batch:,}", f"{took*1e3:.2f}", f"{batch/took:,.0f}"))
    return rows


def losses(device, steps):
    "Training losses of the demonstration's network, in float32, without dropout."
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    prep = prepare({"SIM": simulate_candles(4000, seed=2)}, load_config(CONFIGS/"demo.yaml", **UNDRAWN))
    step, _ = training_step(prep, "finetune", prep.config.train.batch_size, device, False)
    return np.array([step() for _ in range(steps)])


def report(args):
    "What was measured where, and the tables."
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{cpu_name()}, no GPU here"
    cpu, other = (losses(d, args.steps) for d in (torch.device("cpu"), device))
    gap = float(np.abs(cpu - other).max())
    training, rate = training_rows(args, device)
    indicators, bandwidth = indicator_rows(args, device)
    small = ", `--small`: nothing here is a result" if args.small else ""
    here = "here" if device.type == "cuda" else "on it again, as no GPU is here"
    return [
        f"{name}, torch {torch.__version__.partition('+')[0]}{small}",
        table(["backbone", "phase", "mode", "batch", "windows/s", f"s an epoch of {EPOCH:,}", "Top/s", "of matmul"],
              training),
        f"bf16. A product of matrices does {rate/1e12:.2f} Top/s. Asked of the transformer: 40 %, an epoch in 10 s.",
        table([f"{args.symbols:,} symbols x {args.bars_each:,} bars, float32", "ms", "million bars/s"], indicators),
        f"Copying moves {bandwidth/1e12:.3f} TB/s. Asked of all six with 2,000 x 10,000: 50 ms.",
        table(["forecasts together", "ms", "forecasts/s"], forecast_rows(args, device)),
        "The full-size network in float32, inputs and outputs in the CPU's memory. Asked of one: 3 ms.",
        f"Losses of {args.steps} steps on the CPU and {here}: largest difference {gap:.1e} (asked: 1e-3)."]


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--small", action="store_true", help="little data and small networks, to see that it works")
    p.add_argument("--out", type=Path, default=Path(__file__).parent/"results/gpu.md",
                   help="what a GPU did is appended to this file")
    args = p.parse_args()
    sizes = dict(batch=32, bars=3000, symbols=20, bars_each=1000, seconds=0.2, steps=5)
    if not args.small: sizes = dict(batch=2048, bars=30_000, symbols=2000, bars_each=10_000, seconds=8., steps=100)
    vars(args).update(sizes)
    text = report(args)
    print(*text, sep="\n\n")
    if torch.cuda.is_available() and not args.small:
        if not args.out.exists(): args.out.write_text("# On a GPU\n")
        save(args.out, text)
