"The `natron` command on real files: the demonstration from end to end, and everything that can be given wrongly."
import contextlib, io, json, os, re, shutil, signal, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch
import pandas as pd, pytest
from filelock import FileLock
from typer.testing import CliRunner
from natron.bundle import load_bundle, save_bundle
from natron.candles import read_candles, write_candles
from natron.cli import app, main
from natron.core import hold, let_go, resource
from forked import run_natron, started

root = Path(__file__).resolve().parent.parent
sample = root/"data/eurusd_h1_2017.csv.gz"
def set_all(**settings): return [x for k, v in settings.items() for x in ("--set", f"{k.replace('__', '.')}={v}")]
quick_scores = set_all(train__epochs=1, evaluate__lightgbm="false", evaluate__resamples=100)
quick = quick_scores + set_all(train__epochs=2, data__stride=32, model__d_model=16, model__ffn=32,
                               model__head_dims=[16])
few = quick + set_all(train__epochs=6, rl__seeds=2, rl__steps=2048, rl__validate_every=1024, rl__copies=64)


def natron(*args, cwd, ok=True):
    "The command in this process, which has PyTorch loaded already."
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (contextlib.chdir(cwd), patch.object(sys, "argv", ["natron", *map(str, args)]),
          contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)):
        try: main()
        except SystemExit as e: code = e.code or 0
    assert not ok or code == 0, err.getvalue()[-4000:]
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def refused(r, *says, began=False):
    """One clear line (after the model's name or the candles', and the progress where work had begun), exit code 2,
    nothing on standard output."""
    lines = [l for l in r.stderr.strip().splitlines() if not l.startswith(("model: ", "candles: "))]
    assert r.returncode == 2, (r.returncode, r.stderr)
    assert r.stdout == "" and "Traceback" not in r.stderr and (began or len(lines) == 1), r.stderr
    for s in says: assert s in r.stderr, r.stderr


@pytest.mark.parametrize("subject,checks,code", [
    ("planted_leaks:next_return", ["truncation"], 1),
    ("planted_leaks:control", [], 0),
    ("sly_leaks:scaler_on_disk", ["first-call"], 1),
    ("sly_leaks:looked_up_now_and_then", ["memory"], 1),
    ("honest_features:remembered_on_disk", ["first-call", "memory"], 0)])
def test_audit_leaves_with_what_it_found(subject, checks, code, monkeypatch):
    """Exit code 1 where the check finds something, else 0.
    (That each leak is found by each check that can is shown in the audit's notebook.)"""
    monkeypatch.chdir(root)
    asked = [x for c in checks for x in ("--check", c)]
    r = CliRunner().invoke(app, ["audit", f"nbs.tutorials.{subject}", "--candles", str(sample), "--json",
                                 "--cuts", "20", *asked])
    assert r.exit_code == code, r.output
    assert {f["check"] for f in json.loads(r.stdout)["findings"]} == set(checks if code else ())


@pytest.fixture(scope="module")
def run(toy_model, tmp_path_factory):
    "A short demonstration run, made by the first worker that needs it; another one was there before it."
    base = tmp_path_factory.getbasetemp()
    cwd = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)/"natron-demo"
    cwd.mkdir(exist_ok=True)
    with FileLock(cwd/"lock"):
        if not (cwd/"out").exists():
            finished_run(toy_model, cwd/"runs/demo")
            r = natron("demo", "--train-only", *quick, cwd=cwd)
            (cwd/"runs/demo.1").rename(cwd/"before")
            (cwd/"err").write_text(r.stderr)
            (cwd/"out").write_text(r.stdout)
    return cwd, (cwd/"out").read_text()


def finished_run(model, folder):
    "What a command takes for a finished run with this model."
    folder.mkdir(parents=True)
    shutil.copy(model, folder/"natron_v2.pt")
    (folder/"manifest.json").write_text("{}")


@pytest.mark.slow
def test_demo_leaves_a_whole_run(run):
    cwd, told = run
    folder = cwd/"runs/demo"
    for f in ("train.ipynb", "config.yaml", "metrics.json", "manifest.json", "report.html", "natron_v2.pt",
              "scores.txt"):
        assert (folder/f).stat().st_size
    m = json.loads((folder/"manifest.json").read_text())
    assert ({"versions", "seed", "data_hash", "fit_span", "weights"} <= set(m)
            and set(m["covers"]) == {"model", "weights", "data_hash", "machine"})
    for word in ("volatility", "direction", "runs/demo/natron_v2.pt", "runs/demo/report.html"):
        assert word in told, word
    assert len(told.splitlines()) < 40 and "prior  " not in told and "prior  " in (folder/"scores.txt").read_text()
    assert "<h1>Natron: demo on EURUSD</h1>" in (folder/"report.html").read_text()
    assert len((cwd/"runs/trials.jsonl").read_text().splitlines()) == 1
    said = [json.loads((folder/"metrics.json").read_text())["prediction"]["EURUSD"],
            json.loads(natron("predict", "--json", "--model", folder/"natron_v2.pt", "--candles", sample,
                              cwd=cwd).stdout)]
    for o in said: o.pop("model", None)                              # a folder is called by its name from outside, too
    assert said[0] == said[1]


@pytest.mark.slow
def test_the_run_before_steps_aside(run, toy_model):
    """A demonstration leaves the run before as it was.
    (That one seed gives one model, to the bit, is what the next test shows.)"""
    cwd, _ = run
    assert ({p.name: p.read_bytes() for p in (cwd/"before").iterdir()}
            == {"natron_v2.pt": toy_model.read_bytes(), "manifest.json": b"{}"})
    assert "the run before is now runs/demo.1" in (cwd/"err").read_text()
    assert (cwd/"runs/demo/natron_v2.pt").read_bytes() != toy_model.read_bytes()


def killed(*command, cwd, name, checkpoint):
    """The command in a process of its own, killed (`kill -9`) when it has written this checkpoint;
    then until the notebook's own process has noticed, and left."""
    saved, lock = cwd/f"runs/{name}"/checkpoint, cwd/f"runs/.{name}.lock"
    p = started(run_natron, command, cwd, folder=cwd)
    while not saved.exists() and p.is_alive(): time.sleep(.05)
    assert hold(lock) is None
    p.kill()
    p.join()
    assert saved.exists() and not (cwd/f"runs/{name}/natron_v2.pt").exists()
    while not (held := hold(lock)): time.sleep(.05)
    refused(natron(*command, "--resume", cwd=cwd, ok=False), "is being trained by another command")
    let_go(held)
    assert not (cwd/"runs/trials.jsonl").exists()                   # nobody has seen a backtest


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_model(tmp_path):
    """`natron train --config rl` needs nothing else; killed while it trains the network, resumed,
    killed while it trains policies, it ends with the model of the run that nobody disturbed."""
    command, homes = ["train", "--config", "rl", *few], [tmp_path/"whole", tmp_path/"killed"]
    for d in homes: d.mkdir()
    cwd, resumed = homes[1], [*command, "--resume"]
    killed(*command, cwd=cwd, name="rl", checkpoint="checkpoint.pt")
    refused(natron(*command, cwd=cwd, ok=False), "--resume")
    refused(natron(*resumed, "--set", "seed=5", cwd=cwd, ok=False), "other settings")
    # costs make the policy
    refused(natron(*resumed, "--set", "backtest.spread=2", cwd=cwd, ok=False), "other settings")
    killed(*resumed, cwd=cwd, name="rl", checkpoint="rl/seed0/checkpoint.pt")
    natron(*resumed, cwd=cwd)
    told = natron(*command, cwd=homes[0])
    assert "candles: EURUSD, hourly, of 2017, which come with Natron" in told.stderr

    manifests, metrics = ([json.loads((d/f"runs/rl/{n}.json").read_text()) for d in homes]
                          for n in ("manifest", "metrics"))
    assert manifests[0]["model"] == manifests[1]["model"]
    scores = metrics[0]["scores"]
    verdict = scores["verdicts"]["policy"]
    assert verdict == scores["policy"]["verdict"] == metrics[1]["scores"]["verdicts"]["policy"]
    assert (verdict["seeds"], verdict["trials"], list(scores["policy"]["seeds"])) == (2, 3, ["0", "1"])
    assert len((homes[0]/"runs/trials.jsonl").read_text().splitlines()) == 4  # two seeds, the signal, the backtest
    assert f"policy         {verdict['sentence']}" in told.stdout and "rl_action" in told.stdout
    said = json.loads(natron("predict", "--json", "--model", "rl", "--candles", sample, cwd=homes[0]).stdout)
    assert (said["rl_action"], said["rl_probs"]) == (metrics[0]["prediction"]["EURUSD"]["rl_action"],
                                                     metrics[0]["prediction"]["EURUSD"]["rl_probs"])
    assert json.loads(natron("info", "--json", "--model", "rl",
                             cwd=homes[0]).stdout)["rl_policy"]["verdict"]["sentence"] == verdict["sentence"]


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_that_saved_nothing_leaves_nothing(tmp_path, sign):
    "Ctrl-C, or the polite end of the process, before the first epoch: exit code 130, one line, an empty folder."
    p = subprocess.Popen([str(Path(sys.executable).parent/"natron"), "train", "--candles", str(sample),
                          "--name", "x", "--config", "demo"], cwd=tmp_path,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         # a shell's background ignores it
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while not (tmp_path/"runs/x/config.yaml").exists() and p.poll() is None: time.sleep(.05)
    p.send_signal(sign)
    out, err = p.communicate()
    assert (p.returncode == 130 and out == "" and "Traceback" not in err
            and "stopped; nothing was saved yet" in err), err
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_market_never_seen_is_named_by_every_road(run):
    "The model's name, its instruments and the warning: in JSON, in the text, on the page."
    cwd, _ = run
    shutil.copy(sample, cwd/"GBPJPY.csv.gz")
    for command in ("evaluate", "backtest", "drift"):
        told = json.loads(natron(command, "--candles", "GBPJPY.csv.gz", "--json", "--model", "demo",
                                 *(["--force"] if command == "evaluate" else []), cwd=cwd, ok=False).stdout)
        assert told["model"]["name"] == "demo" and told["model"]["instruments"] == ["EURUSD"], command
        assert "unknown_instrument" in [w["code"] for w in told["warnings"]], command
    r = natron("backtest", "--candles", "GBPJPY.csv.gz", "--report", "foreign.html", "--model", "demo", cwd=cwd)
    assert (r.stderr.startswith("model: runs/demo/natron_v2.pt\n")
            and "learned from EURUSD, data up to 2017-11-06" in r.stdout and "WARNING, GBPJPY: " in r.stdout)
    assert "<p>WARNING, GBPJPY: " in (cwd/"foreign.html").read_text()
    assert natron("info", "--model", "demo", cwd=cwd).stdout.count("\n  engine    onnx, ") == 1


def test_output_that_nobody_reads_is_no_error(tmp_path):
    "A closed pipe ends the command as it ends any other, and a full disk is named."
    simulate = [str(Path(sys.executable).parent/"natron"), "simulate", "--bars", "300", "-o"]
    p = subprocess.Popen([*simulate, tmp_path/"a.csv"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.close()
    assert (p.stderr.read(), p.wait()) == (b"", 141)
    if not Path("/dev/full").exists(): return
    with open("/dev/full", "w") as full:
        r = subprocess.run([*simulate, tmp_path/"b.csv"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (r.returncode, r.stderr) == (2, "natron: No space left on device\n")


def test_a_last_candle_that_is_open_is_told(toy_model, tmp_path):
    candles = read_candles(sample)[-600:]
    ahead = candles.set_axis(candles.index + (pd.Timestamp.now("UTC") - candles.index[-1]).ceil("h"))
    write_candles(ahead, tmp_path/"ahead.csv")
    write_candles(candles, tmp_path/"closed.csv")
    for command in (["predict"], ["plan", "--side", "long", "--stop-chance", ".2"]):
        told = [json.loads(natron(*command, "--json", "--model", toy_model, "--candles", f"{name}.csv", cwd=tmp_path).stdout)
                for name in ("ahead", "closed")]
        assert ["open_candle" in [w["code"] for w in o["warnings"]] for o in told] == [True, False]


@pytest.mark.slow
def test_evaluate_scores_only_later_bars(run):
    cwd, _ = run
    scores = json.loads(natron("evaluate", "--json", "--candles", sample, cwd=cwd).stdout)
    told = json.loads((cwd/"runs/demo/metrics.json").read_text())["scores"]
    assert scores["model"]["name"] == "demo" and scores.pop("warnings") == []
    for s in (scores, told):
        s["verdicts"].pop("backtest")
        # it depends on how often these bars were tried before; and the file has another name
        del s["backtest"], s["instruments"]
    assert scores == told                              # the file alone repeats the run's own report, to the last digit
    refused(natron("evaluate", "--candles", sample, "--start", "2017-02-01", cwd=cwd, ok=False), "in-sample")
    r = natron("evaluate", "--candles", sample, "--start", "2017-02-01", "--end", "2017-04-30",
               "--force", "--full", "--report", "red.html", cwd=cwd)
    assert ("WARNING. This is an in-sample score" in r.stdout
            and "<p class=warning>This is an in-sample score" in (cwd/"red.html").read_text()
            and "edge over" not in r.stdout)

    candles = pd.read_csv(sample)
    candles.loc[2000, "volume"] += 1
    (cwd/"revised").mkdir(exist_ok=True)
    candles.to_csv(cwd/"revised/EURUSD.csv", index=False)
    refused(natron("evaluate", "--candles", cwd/"revised/EURUSD.csv", cwd=cwd, ok=False),
            "EURUSD: the candles of 2017-0")
    later = read_candles(sample)[:5000]
    later.index += pd.Timedelta("1100D")
    write_candles(later, cwd/"revised/FRESH.csv")
    refused(natron("evaluate", "--candles", cwd/"revised/FRESH.csv", cwd=cwd, ok=False), "move as those of EURUSD")

    short, full = natron("evaluate", "--candles", sample, cwd=cwd).stdout, r.stdout
    assert (short.startswith("Model demo, ") and len(short.strip().splitlines()) <= 11
            and "recall" in full and "recall" not in short)


@pytest.mark.slow
def test_walk_forward_compare_and_backtest(run):
    "The other questions of `evaluate`, and what is traded: each through the command, on the model of a short run."
    cwd, _ = run
    write_candles(read_candles(sample)[:3500], cwd/"spring.csv")
    told = json.loads(natron("evaluate", "--candles", "spring.csv", "--walk-forward", "2", "--json", cwd=cwd).stdout)
    first, second = (f["span"] for f in told["folds"])
    assert (first[1] < second[0] and told["span"] == [first[0], second[1]]
            and told["scores"]["volatility"]["model"]["rows"]
                == sum(f["scores"]["volatility"]["model"]["rows"] for f in told["folds"]))
    same = json.loads(natron("evaluate", "--candles", sample, "--compare", "demo", "runs/demo/natron_v2.pt", "--json",
                             cwd=cwd).stdout)["scores"]["volatility"]
    assert same["demo"]["diff"] == 0 and same["demo"]["log_loss"] == same["runs/demo/natron_v2.pt"]["log_loss"]

    free, dear = (json.loads(natron("backtest", "--candles", sample, "--set", "backtest.threshold=0.001",
                                    "--set", f"backtest.spread={s}", "--json", cwd=cwd).stdout)
                  for s in (0, 5))
    assert (dear["figures"]["strategy"]["total_return"] < free["figures"]["strategy"]["total_return"]
            and dear["trials"] > 1)
    r = natron("backtest", "--candles", sample, "--set", "backtest.threshold=0.001",
               "--report", "account.html", "--trades", "trades.csv", cwd=cwd)
    trades = pd.read_csv(cwd/"trades.csv")
    assert (len(trades) == free["figures"]["strategy"]["trades"] > 0 and {"entry", "exit_price"} <= set(trades)
            and "<h2>Trades</h2>" in (cwd/"account.html").read_text())

    by_range = ("--set", "backtest.unit=range", "--set", "backtest.stop=0.6", "--set", "backtest.target=1",
                "--set", "backtest.size=forecast")
    other = json.loads(natron("backtest", "--candles", sample, "--set", "backtest.threshold=0.001", *by_range, "--json",
                              cwd=cwd).stdout)
    assert other["figures"]["strategy"]["trades"] not in (0, free["figures"]["strategy"]["trades"])
    told = json.loads(natron("backtest", "--candles", sample, "--entries", "random", *by_range, "--json",
                             cwd=cwd).stdout)
    assert (told["entries"] > 700 and told["unit"] == "range" and told["model"]["name"] == "demo"
            and abs(told["figures"]["atr"]["hit"] - told["figures"]["atr"]["announced"]) < 1e-9)

    refused(natron("backtest", "--candles", sample, "--trades", "trades.csv", cwd=cwd, ok=False),
            "--trades trades.csv: expected a new file")
    refused(natron("backtest", "--candles", sample, "--set", "train.epochs=1", cwd=cwd, ok=False),
            "a trained model is what it is")
    refused(natron("evaluate", "--candles", sample, "--rolling", cwd=cwd, ok=False), "--walk-forward")
    refused(natron("evaluate", "--candles", sample, "--ablate", "rows", cwd=cwd, ok=False), "expected groups")
    refused(natron("evaluate", "--candles", sample, "--compare", "demo", "nobody", cwd=cwd, ok=False),
            "no model file at nobody")


@pytest.mark.slow
def test_drift_and_check_tell_what_changed(run):
    cwd, _ = run
    r = natron("drift", "--candles", sample, "--json", cwd=cwd, ok=False)
    assert r.returncode in (0, 1) and json.loads(r.stdout)

    candles = pd.read_csv(sample)
    wild = candles.index >= 5400
    price = ["open", "high", "low", "close"]
    base = candles.loc[5399, "close"]
    candles.loc[wild, price] = base*(candles.loc[wild, price]/base)**6
    candles.to_csv(cwd/"wild.csv", index=False)
    r = natron("drift", "--candles", "wild.csv", "--report", "drift.html", cwd=cwd, ok=False)
    assert (r.returncode == 1 and "a distribution shift" in r.stdout
            and "Drift of the features" in (cwd/"drift.html").read_text())

    candles = pd.read_csv(sample)
    candles.loc[3000, "high"] *= 1.05
    candles.drop(index=range(4000, 4006)).to_csv(cwd/"odd.csv", index=False)
    assert {"range", "gap"} <= {
        a["kind"] for a in json.loads(natron("check", "--candles", "odd.csv", "--json", cwd=cwd).stdout)["alarms"]}


@pytest.mark.slow
def test_info_and_predict_read_well(run):
    cwd, _ = run
    assert "volatility" in natron("info", cwd=cwd).stdout
    text = natron("predict", "--candles", sample, cwd=cwd).stdout
    assert "2017-12-29" in text and "direction" in text and "confidence" in text


@pytest.mark.slow
def test_bad_input_is_refused_and_nothing_is_lost(run, tmp_path):
    cwd = tmp_path
    shutil.copytree(run[0]/"runs", cwd/"runs")             # others read the first
    model = cwd/"runs/demo/natron_v2.pt"
    candles = pd.read_csv(sample)
    def given(name, frame):
        frame.to_csv(cwd/name, index=False)
        return cwd/name

    broken = candles.copy()
    broken.loc[777, "high"] = broken.loc[777, "low"]/2
    files = {"high.csv": (broken, "777"), "short.csv": (candles.tail(95), "95"),
             "columns.csv": (candles.drop(columns="close"), "close")}
    for name, (frame, says) in files.items():
        refused(natron("predict", "--candles", given(name, frame), cwd=cwd, ok=False), says)

    before = {p: p.read_bytes() for p in (cwd/"runs/demo").iterdir() if p.is_file()}
    refused(natron("train", "--name", "demo", "--candles", sample, cwd=cwd, ok=False), "finished run")
    refused(natron("train", "--name", "new", "--candles", cwd/"high.csv", cwd=cwd, ok=False), "777")
    for name in ("new", "demo"):                               # even where that run is finished
        refused(natron("train", "--name", name, "--candles", sample, "--set", "train.epoch=1", cwd=cwd, ok=False),
                "train.epochs")
    runs = sorted(os.listdir(cwd/"runs"))
    refused(natron("demo", "--train-only", "--set", "data.window_length=3000", cwd=cwd, ok=False), "too few bars",
            began=True)
    # a run that fails at once leaves nothing
    assert sorted(os.listdir(cwd/"runs")) == runs and not list(cwd.rglob("kernel-*"))

    report = cwd/"report.html"
    report.write_text("mine")
    for path in (report, cwd/"none/report.html", model):
        refused(natron("evaluate", "--candles", sample, "--report", path, cwd=cwd, ok=False), "--report")
    hours = candles.set_index(pd.to_datetime(candles.iloc[:, 0])).iloc[:, 1:]
    days = hours.resample("D").last().dropna().rename_axis("time").reset_index()
    for command in ("predict", "evaluate"):
        refused(natron(command, "--candles", given("days.csv", days), cwd=cwd, ok=False), "1 day long")

    refused(natron("predict", "--candles", sample, "--model", cwd/"none.pt", cwd=cwd, ok=False), "none.pt")
    damaged = cwd/"damaged.pt"
    b = bytearray(model.read_bytes())
    b[len(b)//2] ^= 1
    damaged.write_bytes(b)
    for command in ("predict", "evaluate"):
        refused(natron(command, "--candles", sample, "--model", damaged, cwd=cwd, ok=False), "damaged.pt")
    refused(natron("info", "--model", damaged, cwd=cwd, ok=False), "damaged.pt")
    assert {p: p.read_bytes() for p in (cwd/"runs/demo").iterdir() if p.is_file()} == before
    assert not (cwd/"runs/new").exists()


@pytest.fixture
def shipped(toy_model, tmp_path, monkeypatch):
    """A folder without runs, in an installation that brings the toy as its model;
    and the sample that is later than its data."""
    shutil.copytree(root/"data", tmp_path/"data", ignore=lambda *_: ["contract"])
    shutil.copy(toy_model, tmp_path/"data/natron_fx.pt")
    monkeypatch.setattr("natron.core.resource",
                        lambda name: tmp_path/name if name.startswith("data") else resource(name))
    (tmp_path/"home").mkdir()
    return tmp_path/"home", tmp_path/"data/gbpusd_h1_2021.csv.gz"


def test_the_model_that_comes_with_natron_answers_where_none_was_trained(shipped):
    cwd, later = shipped
    part = ["--candles", later, "--start", "2022-02-14"]
    for command in (["predict", *part[:2]], ["plan", *part[:2], "--side", "long", "--stop-chance", ".2"],
                    ["evaluate", *part], ["backtest", *part], ["drift", *part]):
        r = natron(*command, cwd=cwd, ok=command[0] != "drift")
        assert (r.stderr.startswith("model: ")
                and "data/natron_fx.pt (it comes with Natron; name another with --model)\n" in r.stderr), command
        assert re.search("odel natron_fx", r.stdout) and "2017-11-06" in r.stdout, command
    assert "data/natron_fx.pt" in natron("info", cwd=cwd).stdout

    (cwd/"runs/mine").mkdir(parents=True)
    shutil.copy(later.parent/"natron_fx.pt", cwd/"runs/mine/natron_v2.pt")
    mine, ready = (natron("predict", *part[:2], *more, cwd=cwd) for more in ([], ["--model", "ready"]))
    assert (mine.stderr == "model: runs/mine/natron_v2.pt (the newest run's; name another with --model)\n"
            and "model mine" in mine.stdout)
    assert ready.stderr == f"model: {later.parent/'natron_fx.pt'}\n" and "model natron_fx" in ready.stdout


@pytest.mark.parametrize("minutes, said", [(15, "15 minutes"), (240, "4 hours")])
def test_bars_of_another_length_are_refused(shipped, minutes, said):
    "A model answers for the bar length that its calibration was measured on, and no other."
    cwd, later = shipped
    candles = read_candles(later)[-1000:]
    candles.index = pd.date_range("2021-01-01", periods=len(candles), freq=f"{minutes}min", tz="UTC", name="time")
    write_candles(candles, cwd/"GBPUSD.csv")
    for command in (["predict"], ["plan", "--side", "long", "--stop-chance", ".2"], ["evaluate"], ["backtest"],
                    ["drift"]):
        refused(natron(*command, "--candles", "GBPUSD.csv", cwd=cwd, ok=False),
                f"these candles are {said} long, and the model was trained on 1 hour; bring candles of 1 hour")


@pytest.fixture
def registered(shipped):
    "A registry `fx` whose champion says the opposite of what the shipped model says, and candles after both."
    cwd, later = shipped
    toy = load_bundle(later.parent/"natron_fx.pt")
    heads = {k: v if "backbone" in k else -v for k, v in toy.model_state.items()}
    own = replace(toy, model_state=heads, calibration={}, rl_policy={}, scenarios={}, reference_outputs={},
                  settings=toy.settings | dict(evaluate=toy.settings["evaluate"] | dict(resamples=100)))
    save_bundle(own, cwd/"wrong.pt")
    write_candles(read_candles(later)[-3200:], cwd/"GBPUSD.csv")
    assert natron("models", "fx", "--add", "wrong.pt", cwd=cwd).stdout.startswith("fx: champion fx@1 since 20")
    return cwd


def test_retrain_promotes_what_is_better_and_rollback_undoes_it(registered):
    "The training itself is that of `natron train`; here a finished run is put in its place."
    cwd, asked = registered, []
    def trained(folder, cfg, *rest):
        asked.append(cfg)
        folder.mkdir(parents=True)
        shutil.copy(cwd.parent/"data/natron_fx.pt", folder/"natron_v2.pt")
    with patch("natron.cli._run_notebook", trained):
        r = natron("retrain", "--model", "fx", "--candles", "GBPUSD.csv", "--set", "train.epochs=1", "--json", cwd=cwd)
    decision = json.loads(r.stdout)
    assert (decision["kind"], decision["found"], decision["version"], decision["before"]) == (
        "promoted", "better", 2, 1)
    assert "fx@2 promoted, in place of fx@1: better at " in decision["text"]
    assert (asked[0].train.epochs, asked[0].data.until) == (1, None)
    assert '"name": "fx"' in natron("info", "--json", "--model", "fx@champion", cwd=cwd).stdout
    compared = natron("models", "--verify", "--candles", "GBPUSD.csv", cwd=cwd)
    assert compared.stdout == "fx: 2 decisions, 2 model files, 0 faults; 1 compared again, 0 differences\n"
    assert "fx@1 is champion again, in place of fx@2" in natron("rollback", "fx", cwd=cwd).stdout
    assert json.loads(natron("models", "--json", cwd=cwd).stdout)[0]["champion"] == 1
    assert json.loads(natron("rollback", "fx", "--to", "2", "--json", cwd=cwd).stdout)["version"] == 2


def test_retrain_refuses_what_it_cannot_train_or_compare(registered):
    retrain = ["retrain", "--model", "fx", "--candles", "GBPUSD.csv"]
    refused(natron(*retrain, "--challenger", "ready", "--resume", cwd=registered, ok=False),
            "--challenger trains nothing")
    refused(natron(*retrain, "--challenger", "wrong.pt", cwd=registered, ok=False),
            "wrong.pt is the champion itself", began=True)
    refused(natron(*retrain, "--set", "train.epoch=1", cwd=registered, ok=False), "--set train.epoch", "epochs")

    folder = registered/"runs/fx@2"
    folder.mkdir(parents=True)
    (folder/"checkpoint.pt").touch()
    refused(natron(*retrain, cwd=registered, ok=False),
            "runs/fx@2 holds an unfinished challenger; add --resume to go on, or delete it")
    (folder/"manifest.json").touch()
    refused(natron(*retrain, cwd=registered, ok=False),
            "runs/fx@2 holds a challenger that was never compared; compare it with --challenger runs/fx@2")
    held = hold(registered/"runs/.fx@2.lock")
    refused(natron(*retrain, cwd=registered, ok=False),
            "runs/fx@2 is being trained by another command; wait until it is done")
    let_go(held)
    shutil.rmtree(folder)

    write_candles(read_candles(sample)[:3000], registered/"EURUSD.csv")
    refused(natron(*retrain[:-1], "EURUSD.csv", cwd=registered, ok=False),
            "every candle lies in or before the span that the model was fitted on")


def test_registry_names_what_is_damaged_or_not_there(registered):
    refused(natron("rollback", "eur", cwd=registered, ok=False),
            "no model is called eur in models; begin with: natron models eur --add MODEL")
    refused(natron("models", "--registry", "other", cwd=registered, ok=False), "no model is registered in other")
    refused(natron("models", "--add", "ready", cwd=registered, ok=False), "--add takes the name to register under")
    refused(natron("models", "--candles", "GBPUSD.csv", cwd=registered, ok=False), "--candles goes with --verify")
    refused(natron("rollback", "fx", cwd=registered, ok=False), "fx@1 is the first champion; there is none before it")
    refused(natron("models", "fx", "--add", "ready", cwd=registered, ok=False),
            "fx has a champion", "natron retrain --model fx --challenger")
    refused(natron("info", "--model", "fx@9", cwd=registered, ok=False), "there is no fx@9; there are fx@1")
    (registered/"models/fx/natron_v2.pt").write_bytes(b"")
    found = natron("models", "fx", "--verify", "--json", cwd=registered, ok=False)
    assert found.returncode == 1 and "was not the file of fx@1, and now is" in json.loads(found.stdout)[0]["faults"][0]
    assert natron("models", "fx", "--verify", cwd=registered).stdout == "fx: 1 decisions, 1 model files, 0 faults\n"


@pytest.mark.slow
def test_demo_shows_the_model_that_comes_with_natron(shipped):
    cwd, later = shipped
    told = natron("demo", "--ready-only", cwd=cwd).stdout
    assert told.startswith("GBPUSD: ") and "model natron_fx" in told and "2022-03-04T21:00:00" in told
    assert re.search(r"\nvolatility +log_loss \d\.\d+, ", told) and "50 % ranges" in told and not (cwd/"runs").exists()
    assert "measured on others is in the model's card, data/natron_fx.md)" in told
    refused(natron("demo", "--ready-only", "--set", "seed=1", cwd=cwd, ok=False),
            "--ready-only trains nothing; give it alone")
    (later.parent/"natron_fx.pt").unlink()
    refused(natron("demo", "--ready-only", cwd=cwd, ok=False), "this installation carries no trained model")


@pytest.mark.slow
def test_train_from_a_model(shipped):
    "A finetuned run keeps its parent's scaler and tasks, names it, and is refused what it does not fit."
    cwd, later = shipped[0], shipped[0]/"GBPUSD.csv"
    write_candles(read_candles(shipped[1])[-3200:], later)
    train = ["train", "--from", "ready", "--candles", later, "--name", "mine"]
    refused(natron(*train, "--config", "demo", cwd=cwd, ok=False), "--from brings the settings of its model")
    refused(natron(*train, "--set", "labels.tasks=[volatility]", cwd=cwd, ok=False),
            "labels.tasks is ['buy'", "its weights fit that alone")
    refused(natron(*train[:4], sample, *train[5:], cwd=cwd, ok=False),
            "the validation part holds bars that the first model was fitted on", began=True)
    natron(*train, *quick_scores, cwd=cwd)
    manifest, parent, child = json.loads((cwd/"runs/mine/manifest.json").read_text()), *(
        json.loads(natron("info", "--json", "--model", m, cwd=cwd).stdout) for m in ("ready", "mine"))
    assert child["fit_span"]["parent"]["sha256"] == manifest["fit_span"]["parent"]["sha256"] == parent["sha256"]
    assert (child["fit_span"]["scaler"] == parent["fit_span"]["scaler"] and child["tasks"] == parent["tasks"]
            and child["phases"] == ["finetune", "finetune"])
    assert child["instruments"] == ["EURUSD", "GBPUSD"] and child["data_end"] > parent["data_end"]
    assert "unknown_instrument" not in natron("predict", "--candles", later, "--json", cwd=cwd).stdout
