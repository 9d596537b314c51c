"One thread a process, as two workers share the cores; kernels are compiled once, and one toy model trained; the longest tests come first."
import os
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PLOTLY_RENDERER"] = "json"
os.environ.pop("NATRON_TOKEN", None)
import subprocess, sys
import pytest
from filelock import FileLock
from served import save_toy

# Seconds on two quiet cores, of a test, of a notebook, or of a module whose tests stay together; a notebook that is not named takes ten, any other
# test none. The longest start first, so that no worker waits long for another in the end; what takes more than five is slow.
SECONDS = {
    "test_policies_resume_to_the_same_model": 120, "test_app": 100, "test_train_from_a_model": 45, "test_demo_shows_the_model_that_comes_with_natron": 25, "01_features": 77, "01c_audit": 75, "audit_public_packages": 70, "first_steps": 60,
    "live_metatrader": 60, "01b_stream": 55, "00b_candles": 50, "test_killed_run_resumes_to_the_same_model": 45,
    "08f_app": 40, "04d_train": 35, "07b_rl": 35, "07a_bandit": 25, "07_environment": 25, "07c_rl_evaluate": 25, "04c_ranges": 20, "06g_explain": 25, "04e_bundle": 25, "06h_evaluate": 25, "06a_baselines": 25,
    "05_pretrain": 20, "00c_charts": 4, "00_core": 1, "00a_config": 1}

# What compiles nearly every kernel, in two processes; each worker would do all of it, and at the same time.
COMPILED = ("from natron.features import compute_features; compute_features(sample_candles())",
            "from natron.stream import FeatureStream; FeatureStream(sample_candles()[:600])")


def pytest_configure(config):
    if hasattr(config, "workerinput") or not config.option.numprocesses: return
    codes = [f"from natron.candles import sample_candles; {code}" for code in COMPILED]
    for p in [subprocess.Popen([sys.executable, "-c", code]) for code in codes]: p.wait()


def seconds(item):
    names = {item.originalname, item.module.__name__, item.callspec.id if hasattr(item, "callspec") else None}
    usual = 10 if item.module.__name__ == "test_notebooks" else 0
    return max((SECONDS[n] for n in names if n in SECONDS), default=usual)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=seconds, reverse=True)
    for item in items:
        if seconds(item) > 5: item.add_marker("slow")


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory):
    "A small model file, made by the first worker that needs it."
    base = tmp_path_factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)/"toy/natron_v2.pt"
    path.parent.mkdir(exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists(): save_toy(path)
    return path
