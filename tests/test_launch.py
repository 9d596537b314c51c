"A training of two processes, started as a user starts it."
import os, subprocess, sys
from pathlib import Path
import numpy as np, torch
from natron.candles import sample_candles
from natron.config import load_config, with_settings
from natron.dataset import prepare
from natron.finetune import finetune
from natron.train import read_history

SMALL = """
device: cpu
labels: {tasks: [volatility]}
data: {stride: 47, window_length: 32}
pretrain: {epochs: 1, batch_size: 16}
train: {epochs: 2, batch_size: 16, lr: 0.01, tracker: none}
evaluate: {resamples: 100, lightgbm: false}
model: {d_model: 16, heads: 2, ffn: 32, layers: 1, head_dims: [], dropout: 0}
"""
LAUNCH = ("--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no "
          "--main_process_port 0 --no_python natron train")


def test_accelerate_launch(tmp_path):
    """Two processes on the CPU, batches of 16 each: one run folder, written once,
    with the losses of one process with batches of 32."""
    bin, settings = Path(sys.executable).parent, tmp_path/"small.yaml"
    settings.write_text(SMALL)
    r = subprocess.run([bin/"accelerate", "launch", *LAUNCH.split(), "--config", settings, "--name", "pair"],
                       cwd=tmp_path, capture_output=True, text=True,
                       env=os.environ | dict(PATH=f"{bin}{os.pathsep}{os.environ['PATH']}"))
    assert r.returncode == 0, r.stderr[-4000:]
    folder = tmp_path/"runs/pair"
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoint.pt", "config.yaml", "manifest.json", "metrics.json", "natron_v2.pt", "pretrain", "report.html",
        "scores.txt", "train.ipynb", "verdict.txt"]
    assert (r.stdout.count("runs/pair/natron_v2.pt"), r.stderr.count("scores and baselines")) == (1, 1)
    kept = [torch.load(folder/name, weights_only=True) for name in ("checkpoint.pt", "pretrain/checkpoint.pt")]
    assert [k["about"]["processes"] for k in kept] == [2, 2]
    pretrained = {k.removeprefix("backbone."): v for k, v in kept[1]["best"].items() if k.startswith("backbone.")}
    prep = prepare({"EURUSD": sample_candles()}, with_settings(load_config(settings), **{"train.batch_size": 32}))
    alone = finetune(prep, backbone=pretrained)[1]
    pair = read_history(folder)
    for k in ("train_loss", "val_loss"): np.testing.assert_allclose(pair[k], alone[k], rtol=0, atol=1e-6)
