"""How fast it learns: windows and labels a second by backbone, supervision and precision: `python benchmarks/train.py`.

A label is that of one task at one bar: a window supervised at its end brings one for each task, a dense one as many as
it has bars past the 49th. Each row is the median of whole steps (gather, forward, backward, clip, AdamW) on
one core. The operations of a step are three times those of a forward pass, as PyTorch counts them; beside them stands
what the same core does in a plain product of matrices in the same minute. The data loader is measured alone, on a
million rows, beside the rate at which this core reads as many bytes in order, from an array that no cache holds.
Candles are simulated. A GPU is measured by `benchmarks/gpu.py`. `--out FILE` appends the tables to a file.
"""
import argparse, os, time
from itertools import cycle
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np, pandas as pd, torch
from natron.candles import simulate_candles
from natron.config import load_config
from natron.dataset import Series, WindowDataset, prepare, window_data
from natron.finetune import multitask_loss
from natron.model import model_size, new_model
from natron.train import Run
from common import cpu_name, save, table

CONFIGS = Path(__file__).parent.parent/"configs"
SMALL = {"model.backbone": "transformer", "model.d_model": 64, "model.layers": 2, "model.heads": 4, "model.ffn": 256,
         "model.head_dims": [64]}
AT_END = {"model.pooling": "cls", "model.attention": "bidirectional", "model.supervision": "window"}
DENSE = {"model.pooling": "last", "model.attention": "causal", "model.supervision": "dense"}
CASES = {"transformer, 64 wide, [CLS] window": ("natron", SMALL | AT_END, 32),
         "transformer, 64 wide, causal dense": ("natron", SMALL | DENSE, 32),
         "transformer, 256 wide, [CLS] window": ("natron", AT_END, 16),
         "transformer, 256 wide, causal dense": ("natron", DENSE, 16),
         "temporal, 300 bars, window": ("temporal", {"model.supervision": "window"}, 8),
         "temporal, 300 bars, causal dense": ("temporal", {}, 8),
         "hybrid, window": ("hybrid", {"model.supervision": "window"}, 32),
         "hybrid, causal dense": ("hybrid", {}, 32)}


def median(f, seconds=4., least=3):
    "Median seconds of a call, after one that does not count."
    f()
    took, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < least:
        t = time.perf_counter()
        f()
        took.append(time.perf_counter()-t)
    return float(np.median(took))


def matmul(device, dtype, n=1024):
    "Operations a second of a product of square matrices."
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2*n**3/median(lambda: a @ b, 1.5)


def operations(prep):
    "Of one training step, for one window."
    c = prep.config
    return 3e6*model_size(c.model, len(prep.columns), prep.labels.tasks, c.data.window_length,
                          c.model.supervision == "dense")["million operations"]


def step_of(prep, batch, device):
    "A function that takes one step on the next windows, and how many labels that brings."
    c = prep.config
    dense = c.model.supervision == "dense"
    model = new_model(prep)
    run = Run(model, multitask_loss(model.tasks, dense), c.train, 0, device)
    data = window_data(prep, "train", dense)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    at = 0
    run.net.train()

    def step():
        nonlocal at
        run.step(data, [order[at:at+batch]], 0, 0)
        at = (at+batch) % (len(order)-batch)
    return step, int((~data.__getitems__(order[:batch])["y"].isnan()).sum())


def loading():
    "Windows a second of a million rows, and what reading as many bytes in order would allow."
    n, T = 1_000_000, 96
    rng = np.random.default_rng(0)
    times = pd.date_range("1900-01-01", periods=n, freq="h", tz="UTC")
    s = Series("S", times, rng.standard_normal((n, 100), np.float32), np.ones((n, 100), bool),
               np.zeros((n, 1), np.float32), 1, 1)
    data = WindowDataset([s], [slice(0, n)], T)
    draws, out = torch.Generator().manual_seed(0), []
    for batch in (32, 64, 256, 1024):
        order = iter(torch.randint(len(data), (100_000, batch), generator=draws))
        # 100 values of four bytes and one of mask
        blocks = cycle(data.x.flatten()[:n*100//(batch*T*125)*batch*T*125].split(batch*T*125))
        block = torch.zeros(batch*T*125)
        out.append((batch, batch/median(lambda: data.__getitems__(next(order)), 2),
                    batch/median(lambda: block.copy_(next(blocks)), 2)))
    return out


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path)
    a = a.parse_args()

    torch.set_num_threads(1)
    candles, cpu = {"SIM": simulate_candles(20_000, seed=1)}, torch.device("cpu")
    rows, speed = [], {}
    for name, (config, sets, batch) in CASES.items():
        for precision in ("no", "bf16"):
            prep = prepare(candles, load_config(CONFIGS/f"{config}.yaml", **sets | {"train.precision": precision}))
            step, labels = step_of(prep, batch, cpu)
            work = operations(prep)*batch
            ceiling = matmul(cpu, torch.bfloat16 if precision == "bf16" else torch.float32)
            took = median(step)
            speed[name, precision] = labels/took
            rows.append((name, "float32" if precision == "no" else precision, batch, f"{batch/took:,.0f}",
                         f"{labels/took:,.0f}", f"{work/took/1e9:,.1f}", f"{ceiling/1e9:,.0f}",
                         f"{work/took/ceiling:.0%}"))
            print(rows[-1], flush=True)
    gain = [
        f"{speed[f'transformer, {d} wide, causal dense', 'no']/speed[f'transformer, {d} wide, [CLS] window', 'no']:.0f}"
        f" times at {d} wide" for d in (64, 256)]
    about = f"{cpu_name()}, one core; torch {torch.__version__.partition('+')[0]}"
    text = [about, table(["one core", "precision", "batch", "windows/s", "labels/s", "Gop/s", "matmul Gop/s", "used"],
                         rows),
            "Labels a second, dense over [CLS]: " + ", ".join(gain) + " (asked 20 and 40).",
            table(["loading alone, 1,000,000 rows of 100 columns: batch", "windows/s", "reading in order"],
                  [(b, f"{w:,.0f}", f"{c:,.0f}") for b, w, c in loading()])]
    print(*text, sep="\n\n")
    save(a.out, text)
