"A small model file, and a server process that answers with it."
import os, re, signal, subprocess, sys, tempfile, time
from pathlib import Path
import pytest
from forked import PATIENCE, run_natron, started

natron = str(Path(sys.executable).parent/"natron")


def save_toy(path, **sets):
    "Train a model in seconds, with layers and heads to choose from, and save it."
    from natron.bundle import save_bundle
    from natron.calibrate import fit_scenarios
    from natron.candles import sample_candles
    from natron.config import load_config
    from natron.dataset import prepare
    from natron.finetune import finetune, make_bundle
    from natron.reference import fit_reference
    from natron.report import known_cells
    small = dict(d_model=32, layers=2, heads=2, ffn=64, head_dims=[32],
                 pooling="last", attention="causal", supervision="dense")
    cfg = load_config(model=small, train=dict(epochs=2, lr=0.002, tracker="none"), data=dict(stride=24), **sets)
    series = {"EURUSD": sample_candles()}
    prep = prepare(series, cfg)
    model, reference = finetune(prep)[0], fit_reference(known_cells(prep, "train"))
    save_bundle(make_bundle(model, prep, series, reference=reference, scenarios=fit_scenarios(prep, model)), path)


VERDICT = dict(kind="nothing", sentence="This policy adds nothing.")


def save_acting(toy, path):
    "Save the toy with a policy that has learnt nothing."
    from natron.bundle import load_bundle, save_bundle
    from natron.core import seed_everything
    from natron.engine import with_policy
    from natron.model import Policy, PolicySettings, policy_width
    bundle = load_bundle(toy)
    seed_everything(0)
    policy = Policy(PolicySettings("bandit", "discrete", (16,), "tanh", policy_width(bundle.model()), .001))
    save_bundle(with_policy(bundle, policy, dict(verdict=VERDICT)), path)


class Served:
    "A `natron` server process, the addresses that it printed, and its log."
    def __init__(self, *args, servers=1, program=(natron,), cwd=None, **env):
        self.log = tempfile.TemporaryFile("w+")  # a pipe that nobody reads would fill, and the server wait
        self.p = subprocess.Popen([*program, *map(str, args)], stdout=subprocess.PIPE, stderr=self.log, text=True,
                                  cwd=cwd, env=os.environ | env)
        lines = [self.p.stdout.readline() for _ in range(servers)]
        if not all(lines):
            self.p.kill()
            raise AssertionError(self.stop())
        self.urls = [line.split()[-1] for line in lines]

    def stop(self, sign=signal.SIGTERM):
        "End it politely; its log."
        self.p.send_signal(sign)
        self.p.wait(PATIENCE)
        self.log.seek(0)
        return self.log.read()

    def __enter__(self): return self
    def __exit__(self, *e):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()
        self.log.close()


class ForkedServer(Served):
    "The same in a forked process, which has the libraries loaded; what it prints is in files."
    def __init__(self, *args, servers=1, cwd=".", **env):
        self.folder = tempfile.TemporaryDirectory()
        self.p = started(run_natron, args, cwd, env, folder=self.folder.name)
        end = time.monotonic() + PATIENCE
        while len(self.said().splitlines()) < servers:
            assert self.p.is_alive() and time.monotonic() < end, self.logged()
            time.sleep(.05)
        self.urls = [line.split()[-1] for line in self.said().splitlines()]

    def _printed(self, name):
        path = Path(self.folder.name, name)
        return path.read_text() if path.exists() else ""

    def said(self):
        "The whole lines that it has printed."
        return self._printed("stdout").rpartition("\n")[0]

    def logged(self): return self._printed("stderr")

    def stop(self, sign=signal.SIGTERM):
        os.kill(self.p.pid, sign)
        self.p.join(PATIENCE)
        assert self.p.exitcode is not None, self.logged()
        return self.logged()

    def kill(self):
        self.p.kill()
        self.p.join()

    def __exit__(self, *e):
        self.kill()
        self.folder.cleanup()


def ray_started(start):
    """What `start` gives, in three tries: Ray gives its processes fifteen seconds, however busy the machine.
    Where it stays too slow for Ray, nothing of Natron's can be tested."""
    for tries_left in (2, 1, 0):
        try: return start()
        except Exception as e:
            late = re.search("timed out during startup|less busy", str(e))  # Ray's own words, and the command's
            if not tries_left and late:
                pytest.skip("Ray's processes did not start within its fifteen seconds, three times")
            if not tries_left: raise
