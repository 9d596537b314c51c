"""Sweeps whose processes are killed: the command, a worker of this machine, a worker of a Ray cluster.
Nothing is lost, nothing is counted twice."""
import importlib.util, json, multiprocessing, os, signal, sys, time
from pathlib import Path
import numpy as np, pytest
from natron.backtest import TrialLog
from natron.candles import sample_candles
from natron.core import NatronError
from natron.sweep import FoldScore, SweepConfig, local_pool, open_study, ray_pool, run_sweep
from forked import run_natron, started
from served import PATIENCE, ray_started

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
series = {"EURUSD": sample_candles()}
sweep = SweepConfig(search={"train.lr": {"low": 1e-4, "high": 1e-1, "log": True}}, trials=12, folds=3)


def toy_fold(candles, cfg, splits, task, metric, trap=None):
    """A parabola with noise. In the second fold of the first trial that gets there,
    the process that finds no file `trap` makes it and waits to be killed."""
    times, lr = candles["EURUSD"].index[splits[0].test], cfg.train.lr
    if trap and splits[0].test.start > 4000 and not os.path.exists(trap):
        Path(trap).write_text(str(os.getpid()))
        while True: time.sleep(.05)
    rng = np.random.default_rng([int(1e9*lr), splits[0].test.start])
    return FoldScore((np.log10(lr) + 2)**2 + rng.normal(1, .1, len(times)), np.full(len(times), 2.), times,
                     rng.normal(0, .001, len(times)), 24)


def trapped(path):
    "The fold with this trap, as something that travels to other processes."
    from functools import partial
    return partial(toy_fold, trap=str(path))


def sprung(path):
    "The process that waits in a trap."
    end = time.monotonic() + PATIENCE
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end, "no process came to the trap"
        time.sleep(.02)
    return int(path.read_text())


def now(f, *args):
    "Do it in this process."
    from concurrent.futures import Future
    future = Future()
    future.set_result(f(*args))
    return future


def swept(folder, pool=None, fold=toy_fold):
    from natron.sweep import Pool
    return run_sweep(sweep, series, folder, pool or Pool(now), TrialLog(f"{folder}.jsonl"), fold=fold)


def told(folder):
    "What a sweep tried, without the numbers of its trials."
    study = open_study(folder)
    again = {t.user_attrs["retry_of"] for t in study.trials if "retry_of" in t.user_attrs}
    return [(t.params, t.state, t.value) for t in study.trials if t.number not in again]


def lines(folder): return Path(f"{folder}.jsonl").read_text().splitlines()
def keys(folder): return {json.loads(line)["settings"] for line in lines(folder)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")/"whole"
    return swept(folder), folder


def test_killed_command_goes_on_with_the_same_trials(undisturbed, tmp_path):
    "SIGKILL while a trial runs: it is marked as failed and tried again, and the sweep ends as if nothing had been."
    whole, place = undisturbed
    folder, trap = tmp_path/"killed", tmp_path/"trap"
    p = multiprocessing.get_context("fork").Process(target=swept, args=(folder, None, trapped(trap)))
    p.start()
    os.kill(sprung(trap), signal.SIGKILL)
    p.join()
    assert p.exitcode == -signal.SIGKILL
    assert open_study(folder).trials[-1].state.name == "RUNNING"
    found = swept(folder)
    assert told(folder) == told(place) and len(told(folder)) == 12
    assert len([t for t in open_study(folder).trials if "retry_of" in t.user_attrs]) == 1
    assert len(lines(folder)) == len(keys(folder)) == 12 == found.counted
    assert keys(folder) == keys(place)
    assert (found.states, found.best["params"], found.overfitting) == (
        whole.states, whole.best["params"], whole.overfitting)


def test_killed_worker_of_this_machine(undisturbed, tmp_path):
    "Its fold is done again by a new process, and no process is left."
    whole, place = undisturbed
    folder, trap = tmp_path/"worker", tmp_path/"trap"
    with local_pool(1, tmp_path/"workers.log") as pool:
        import threading
        threading.Thread(target=lambda: os.kill(sprung(trap), signal.SIGKILL)).start()
        found = swept(folder, pool, trapped(trap))
    assert found == whole and told(folder) == told(place)
    assert len(lines(folder)) == 12 and not multiprocessing.active_children()


TINY = """
set:
  labels.tasks: [volatility]
  data.stride: 48
  data.window_length: 16
  train.epochs: 1
  train.tracker: none
  evaluate.resamples: 100
  model: {d_model: 8, heads: 2, ffn: 16, layers: 1, head_dims: []}
search: {train.lr: {low: 0.001, high: 0.01}}
trials: 2
folds: 1
"""


def test_command(tmp_path, monkeypatch, capsys):
    "`natron sweep` from the file to the executed notebook; here without processes of its own for the trials."
    from contextlib import nullcontext
    from natron import cli
    from natron.sweep import Pool
    monkeypatch.setattr("natron.sweep.local_pool", lambda workers, log: nullcontext(Pool(now, workers)))
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(TINY)
    cli.app(["sweep", "mine.yaml"], standalone_mode=False)
    printed, folder = capsys.readouterr(), tmp_path/"runs/mine"
    assert (folder/"sweep.txt").read_text() in printed.out and "2 of 2 done" in printed.err
    assert {"result.json", "best.yaml", "holdout.json", "sweep.ipynb", "sweep.html"} <= {
        p.name for p in folder.iterdir()}
    assert len(TrialLog("runs/trials.jsonl").trials()) == 2
    with pytest.raises(NatronError, match="add --resume to go on"):
        cli.app(["sweep", "mine.yaml"], standalone_mode=False)


def sweep_up_to_its_notebook(cwd):
    "`natron sweep` whose search is done at once; its notebook waits for what it found."
    import natron.sweep
    def found(sweep, candles, folder, *a, **k):
        folder.mkdir(parents=True)
        os.mkfifo(folder/"result.json")
    natron.sweep.run_sweep = found
    (cwd/"mine.yaml").write_text(TINY)
    run_natron(["sweep", "mine.yaml"], cwd)


def being_read(path, p):
    "The open pipe, when somebody reads it."
    end = time.monotonic() + PATIENCE
    while p.is_alive() and time.monotonic() < end:
        try: return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError: time.sleep(.05)
    raise AssertionError("nobody reads it")


def test_stopped_while_its_notebook_runs(tmp_path):
    "Politely, which is as Ctrl-C: exit code 130, and how to go on; nothing of the notebook's process."
    p = started(sweep_up_to_its_notebook, tmp_path, folder=tmp_path)
    pipe = being_read(tmp_path/"runs/mine/result.json", p)
    os.kill(p.pid, signal.SIGTERM)
    p.join(PATIENCE)
    os.close(pipe)
    err = (tmp_path/"stderr").read_text()
    assert (p.exitcode == 130 and "Traceback" not in err
            and err.endswith("stopped; go on with --resume --name mine\n")), err


def children():
    "Processes that this one has started, and theirs."
    import psutil
    return {p.pid for p in psutil.Process().children(recursive=True)}


@pytest.fixture(scope="module")
def cluster():
    "A Ray cluster of two nodes on this machine, a processor each."
    if not importlib.util.find_spec("ray"): pytest.skip("needs ray")
    before = children()
    from ray.cluster_utils import Cluster
    # Ray takes 127.0.0.1 for another address
    node = dict(num_cpus=1, object_store_memory=80_000_000, include_dashboard=False, node_ip_address="127.0.0.2")
    cluster = Cluster()
    for _ in range(2): ray_started(lambda: cluster.add_node(**node))
    yield cluster
    cluster.shutdown()
    assert not [p for p in children() if p not in before], "a process of the cluster is left"


@pytest.mark.xdist_group("ray")
def test_killed_worker_of_a_ray_cluster(cluster, undisturbed, tmp_path):
    "Two nodes; a worker is killed in the middle of a trial, and Ray gives the fold to another."
    import ray, threading
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder, trap = tmp_path/"ray", tmp_path/"trap"
    with ray_pool(cluster.address) as pool:
        assert pool.workers == 2 and len(ray.nodes()) == 2
        threading.Thread(target=lambda: os.kill(sprung(trap), signal.SIGKILL)).start()
        found = swept(folder, pool, trapped(trap))
    assert trap.exists() and sum(found.states.values()) == 12
    assert len(told(folder)) == len(open_study(folder).trials) == 12
    assert len(lines(folder)) == len(keys(folder)) == 12
    assert found.holdout.look == 1
