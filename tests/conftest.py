"""One thread a process, as three workers share two cores: each waits now and then.
Kernels are compiled once, and one toy model trained; the longest tests come first."""
import os
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Memory that was freed stays with its process:
# to have it from the system again and again is a tenth of the time on a virtual machine.
os.environ |= dict(MALLOC_MMAP_THRESHOLD_=str(2**25), MALLOC_TRIM_THRESHOLD_=str(2**29))
os.environ["PLOTLY_RENDERER"] = "json"
os.environ.pop("NATRON_TOKEN", None)
import gc
gc.disable()                   # until everything is imported: a fifth of the time of importing
import hashlib, subprocess, sys
from importlib.util import find_spec
from pathlib import Path
import pytest
from filelock import FileLock
from served import save_toy

root = Path(__file__).resolve().parent.parent

# Seconds of one quiet core, of a test, of a notebook, or of a module whose tests stay together; a notebook that is not
# named takes six, any other test none. The longest start first, so that no worker waits long for another in the end;
# what takes more than five is slow. The first that needs the demonstration's run makes it, and starts long before the
# others that do: they would wait for it.
SECONDS = {
    "test_app": 100, "test_killed_run_resumes_to_the_same_model": 60, "01c_audit": 60, "test_ray_serve": 60,
    "test_mql5": 50, "audit_public_packages": 48, "test_sweep": 40, "test_demo_leaves_a_whole_run": 30,
    "test_train_from_a_model": 22, "test_schemathesis_finds_nothing": 17, "06g_explain": 17, "04d_train": 17,
    "test_accelerate_launch": 16, "first_steps": 16, "07b_rl": 16, "06_finetune": 14, "06a_baselines": 13,
    "06h_evaluate": 13, "08d_bridge": 13, "reading_a_report": 13, "07a_bandit": 12,
    "test_blocks_do_what_they_show[evaluate]": 12, "00b_candles": 11, "08_predictor": 11, "05_pretrain": 10,
    "08b_service": 10, "08c_rest": 10, "your_own_feature": 10, "04e_bundle": 9, "06e_backtest": 9, "08e_view": 9,
    "09_registry": 9, "your_own_task": 9, "00d_rolling": 8, "01_features": 8, "04b_model": 8, "06b_metrics": 8,
    "06j_range_scores": 8, "08f_app": 8, "09b_cli": 8, "two_instruments": 8, "04f_engine": 7, "06i_report": 7,
    "07c_rl_evaluate": 7, "00f_store": 6, "01d_indicators": 6, "01f_feature_store": 6, "07_environment": 6,
    "09a_sweep": 6, "test_a_container_with_a_read_only_root_answers": 6,
    "test_dashboard_reads_what_the_server_exports": 6, "test_site": 6,
    "test_retrain_promotes_what_is_better_and_rollback_undoes_it": 4,
    "test_demo_shows_the_model_that_comes_with_natron": 4}

# What compiles nearly every kernel, in two processes; each worker would do all of it, and at the same time.
CANDLES = "from natron.candles import sample_candles; candles = sample_candles()"
FEATURES = f"{CANDLES}; from natron.features import compute_features; compute_features(candles)"
STREAM = (f"{CANDLES}; from natron.stream import FeatureStream; "
          "FeatureStream(candles[:600]).append(candles.reset_index().iloc[600])")


def forget_old_kernels():
    """Numba compiles a kernel again when its own file has changed;
    here, also when the file of a kernel that it calls has."""
    package = root/"natron"
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
    # Libraries are compiled too when they are first loaded, half a minute of it where they have just been installed.
    just_installed = not Path(find_spec("gradio").cached).exists()
    codes = ["import tests.loaded" if just_installed else FEATURES, STREAM]
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=root) for code in codes]
    if any([p.wait() for p in started]): pytest.exit("Natron's kernels do not compile", returncode=1)


def seconds(item):
    names = {item.name, item.originalname, item.module.__name__,
             item.callspec.id if hasattr(item, "callspec") else None}
    usual = 6 if item.module.__name__ == "test_notebooks" else 0
    return max((SECONDS[n] for n in names if n in SECONDS), default=usual)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=seconds, reverse=True)
    for item in items:
        if seconds(item) > 5: item.add_marker("slow")


def pytest_collection_finish():
    """What the test modules have imported is never garbage:
    a million objects, and each full collection would take half a second."""
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
