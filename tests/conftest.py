"One thread a process, as two workers share the cores; kernels are compiled once, and one toy model trained; the longest tests come first."
import os
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Memory that was freed stays with its process: to have it from the system again and again is a tenth of the time on a virtual machine.
os.environ |= dict(MALLOC_MMAP_THRESHOLD_=str(2**25), MALLOC_TRIM_THRESHOLD_=str(2**29))
os.environ["PLOTLY_RENDERER"] = "json"
os.environ.pop("NATRON_TOKEN", None)
import gc
gc.disable()                   # until everything is imported: a fifth of the time of importing
import hashlib, subprocess, sys
from pathlib import Path
import pytest
from filelock import FileLock
from served import save_toy

# Seconds of one quiet core, of a test, of a notebook, or of a module whose tests stay together; a notebook that is not named takes ten, any other
# test none. The longest start first, so that no worker waits long for another in the end; what takes more than five is slow. The first that needs
# the demonstration's run makes it, and starts long before the others that do: they would wait for it.
SECONDS = {
    "audit_public_packages": 68, "test_app": 100, "01c_audit": 70, "test_killed_run_resumes_to_the_same_model": 72,
    "test_train_from_a_model": 26, "test_demo_leaves_a_whole_run": 30, "test_blocks_do_what_they_show[evaluate]": 18,
    "test_demo_shows_the_model_that_comes_with_natron": 15,
    "test_sweep": 40, "test_ray_serve": 60, "test_accelerate_launch": 30, "01_features": 28, "07b_rl": 25,
    "06_finetune": 26, "test_schemathesis_finds_nothing": 20, "06g_explain": 25, "your_own_feature": 14, "00b_candles": 17, "07a_bandit": 19,
    "first_steps": 19, "04d_train": 21, "08d_bridge": 18, "04e_bundle": 18, "08_predictor": 20, "05_pretrain": 18, "reading_a_report": 16, "06a_baselines": 17,
    "06b_metrics": 12, "06e_backtest": 14, "06h_evaluate": 18, "06j_range_scores": 16, "07_environment": 14, "08b_service": 15,
    "your_own_task": 15, "two_instruments": 15, "09b_cli": 14, "test_a_container_with_a_read_only_root_answers": 14,
    "test_dashboard_reads_what_the_server_exports": 13, "00d_rolling": 12, "07c_rl_evaluate": 12, "09_registry": 12, "09a_sweep": 12,
    "test_retrain_promotes_what_is_better_and_rollback_undoes_it": 6, "test_site": 5, "08i_alerts": 5, "01b_stream": 7, "00c_charts": 4,
    "test_challengers_say_that_no_weights_were_at_hand": 3, "test_challengers_score_chronos_where_its_weights_are": 3, "00_core": 1, "00a_config": 1}

# What compiles nearly every kernel, in two processes; each worker would do all of it, and at the same time. Where no slow test needs the stream, the
# second begins with the last features and meets the first halfway.
IN_TURN = "from natron.features import GROUPS, compute_features; {}compute_features(candles)"
BACKWARDS = "groups = dict(reversed(GROUPS.items())); GROUPS.clear(); GROUPS.update(groups); "
STREAM = "from natron.stream import FeatureStream; FeatureStream(candles[:600]).append(candles.reset_index().iloc[600])"


def forget_old_kernels():
    "Numba compiles a kernel again when its own file has changed; here, also when the file of a kernel that it calls has."
    package = Path(__file__).resolve().parent.parent/"natron"
    cache = package/"__pycache__"
    texts = [t for p in sorted(package.glob("*.py")) if b"@kernel" in (t := p.read_bytes())]
    found, stamp = hashlib.sha256(b"".join(texts)).hexdigest(), cache/"kernels.sha256"
    if stamp.exists() and stamp.read_text() == found: return
    for p in cache.glob("*.nb[ci]"): p.unlink()
    cache.mkdir(exist_ok=True)
    stamp.write_text(found)


def pytest_configure(config):
    if hasattr(config, "workerinput"): return
    forget_old_kernels()
    if not config.option.numprocesses: return
    compiled = IN_TURN.format(""), IN_TURN.format(BACKWARDS) if config.option.markexpr == "not slow" else STREAM
    codes = [f"from natron.candles import sample_candles; candles = sample_candles(); {code}" for code in compiled]
    for p in [subprocess.Popen([sys.executable, "-c", code]) for code in codes]: p.wait()


def seconds(item):
    names = {item.name, item.originalname, item.module.__name__, item.callspec.id if hasattr(item, "callspec") else None}
    usual = 10 if item.module.__name__ == "test_notebooks" else 0
    return max((SECONDS[n] for n in names if n in SECONDS), default=usual)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=seconds, reverse=True)
    for item in items:
        if seconds(item) > 5: item.add_marker("slow")


def pytest_collection_finish():
    "What the test modules have imported is never garbage: a million objects, and each full collection would take half a second."
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory):
    "A small model file, made by the first worker that needs it."
    base = tmp_path_factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)/"toy/natron_v2.pt"
    path.parent.mkdir(exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists(): save_toy(path)
    return path
