"""Memory of training on a hundred instruments, and what a feature store saves: `python benchmarks/scale.py`.

Simulated hourly candles, a market for each seed. With and without a feature store everything runs in a process of its
own, and the peak of a step is the most that this process held in memory at once (VmHWM: mapped pages count; there is no
other process). Beside them stand the plain size of the arrays that a training holds, and the time it takes to read the
bytes of the store. Training takes steps of the network of `configs/demo.yaml` on windows drawn from all instruments.
`--small` is a quick one; `--out FILE` appends the tables to a file.
"""
import argparse, json, os, re, subprocess, sys, tempfile, time, zlib
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numba, numpy as np, torch
from natron.candles import simulate_candles
from natron.config import load_config
from natron.dataset import prepare, resume_key, window_data
from natron.feature_store import stored_features
from natron.features import feature_frame
from natron.finetune import multitask_loss
from natron.model import new_model
from natron.train import Run, epoch_batches
from common import cpu_name, save, table

DEMO = Path(__file__).parent.parent/"configs/demo.yaml"
WAYS = dict(anew="no store", store="feature store")
LIMIT = 6.  # GB that training on a hundred instruments may take
PROC = Path("/proc/self")


class Steps(list):
    "Rows of what was done, the seconds it took, wall and processor, and the gigabytes held at most meanwhile."
    def __call__(self, what, f):
        (PROC/"clear_refs").write_text("5")                                  # the peak so far is forgotten
        begin = time.perf_counter(), time.process_time()
        out = f()
        took = time.perf_counter()-begin[0], time.process_time()-begin[1]
        self.append((what, *took, int(re.search(r"VmHWM:\s+(\d+)", (PROC/"status").read_text())[1])*1024/1e9))
        return out


def train(prep, steps):
    "Windows a second of so many steps on the windows of all instruments, indexed and shuffled as a training does it."
    cfg = prep.config
    train, validation = window_data(prep, "train", True, 1, cfg.data.cold_start), window_data(prep, "validation", True)
    key = resume_key(prep)
    model = new_model(prep)
    run = Run(model, multitask_loss(model.tasks, True), cfg.train, 0, torch.device("cpu"))
    run.net.train()
    batches, begin = epoch_batches(len(train), cfg.train.batch_size, 0, 0), time.perf_counter()
    for i in range(steps): run.step(train, batches[i:i+1], 0, i)
    return dict(windows=len(train), rate=steps*cfg.train.batch_size/(time.perf_counter()-begin),
                validation=len(validation), digest=key["data"])


def gathered(prep, batches=100):
    "Windows a second of the data loader alone."
    data = window_data(prep, "train", True)
    order = torch.randint(len(data), (batches, 64), generator=torch.Generator().manual_seed(0))
    data.__getitems__(order[0])
    begin = time.perf_counter()
    for idx in order: data.__getitems__(idx)
    return batches*64/(time.perf_counter()-begin)


def sizes(prep):
    "Gigabytes of the arrays that a training holds, by name, each once."
    of = lambda k: sum(getattr(s, k).nbytes for s in prep.series)/1e9
    return dict(inputs=of("x"), mask=of("mask"), labels=of("y"),
                candles=sum(s.candles.memory_usage().sum() for s in prep.series)/1e9)


def features(candles, store, done):
    "The features alone, computed anew, or into an empty store and out of the full one."
    if not store: return done("features computed", lambda: [feature_frame(c) for c in candles.values()] and None)
    for what in ("features into the empty store", "features out of the full store"):
        done(what, lambda: stored_features(candles, store) and None)
    done("the bytes of the store read in order",
         lambda: [zlib.crc32(f.read_bytes()) for f in Path(store).iterdir()] and None)


def part(instruments, bars, steps, store=None):
    "All figures of one process: simulate, compute features, prepare with a feature store or without, train."
    torch.set_num_threads(1)
    cfg, done = load_config(DEMO, **{"data.feature_store": store}), Steps()
    candles = done("candles simulated",
                   lambda: {f"SIM{k:03}": simulate_candles(bars, seed=k) for k in range(instruments)})
    feature_frame(candles["SIM000"][:600])  # compiled before
    features(candles, store, done)
    prep = done("prepared: features, labels, scaling", lambda: prepare(candles, cfg))
    trained = done(f"{steps} training steps", lambda: train(prep, steps))
    return dict(steps=done, sizes=sizes(prep), gathered=gathered(prep), **trained)


def child(*args):
    "`part` in a process of its own."
    run = subprocess.run([sys.executable, __file__, "--part", json.dumps(args)], stdout=subprocess.PIPE, text=True)
    if run.returncode: raise SystemExit(run.returncode)
    return json.loads(run.stdout.splitlines()[-1])


def report(found, instruments, bars):
    "The tables of what `part` found by way."
    rows = [(WAYS[w], what, f"{wall:.1f}", f"{cpu:.1f}", f"{peak:.2f}")
            for w, f in found.items() for what, wall, cpu, peak in f["steps"]]
    first, peak = next(iter(found.values())), max(row[3] for f in found.values() for row in f["steps"])
    plain = (", ".join(f"{k} {v:.2f}" for k, v in first["sizes"].items())
             + f": {sum(first['sizes'].values()):.2f} GB together")
    same = "the same" if len({f["digest"] for f in found.values()}) == 1 else "NOT the same"
    speed = ", ".join(f"{WAYS[w]} {f['rate']:,.0f} (data loader alone {f['gathered']:,.0f})" for w, f in found.items())
    return [f"{instruments} instruments of {bars:,} bars; {first['windows']:,} training windows, "
            f"{first['validation']:,} validation windows",
            table(["", "step", "seconds", "CPU seconds", "peak GB"], rows),
            f"Plain size of the arrays: {plain}. "
            f"Highest peak: {peak:.2f} GB{f', under {LIMIT:g} GB' if peak < LIMIT else ''}.",
            f"Windows a second in training: {speed}. Inputs and labels are {same} each way."]


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--small", action="store_true", help="4 instruments of 3,000 bars")
    p.add_argument("--instruments", type=int, default=100)
    p.add_argument("--bars", type=int, default=50_000)
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--out", type=Path, help="append the tables to this file")
    p.add_argument("--part", type=json.loads, help=argparse.SUPPRESS)
    a = p.parse_args()

    if a.part: return print(json.dumps(part(*a.part)))
    size = (4, 3000, 3) if a.small else (a.instruments, a.bars, a.steps)
    with tempfile.TemporaryDirectory() as folder:
        found = {w: child(*size, folder if w == "store" else None) for w in WAYS}
    about = (f"{cpu_name()}, {numba.get_num_threads()} cores; "
             f"numpy {np.__version__}, torch {torch.__version__.partition('+')[0]}")
    text = [about, *report(found, *size[:2])]
    print(*text, sep="\n\n")
    save(a.out, text)


if __name__ == "__main__": main()
