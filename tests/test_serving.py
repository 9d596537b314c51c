"""The servers as a stranger meets them: `natron serve` in a process of its own,
and a tool that tries to find what it does not say."""
import json, shutil, signal, socket, subprocess, sys, time
from functools import partial
from pathlib import Path
import httpx, numpy as np, onnxruntime as ort, pytest
from natron.bridge import BridgeClient, BridgeError
from natron.candles import sample_candles
from natron.predictor import load_predictor
from forked import forked, run_natron
from served import PATIENCE, VERDICT, ForkedServer, natron, save_acting

BridgeClient = partial(BridgeClient, timeout=PATIENCE)
pytestmark = pytest.mark.slow
candles = sample_candles()
recent = candles.iloc[-512:]
rows = [dict(time=t.isoformat(), **r) for t, r in recent.iterrows()]


def logged(server): return [json.loads(line) for line in server.stop().splitlines()]
def without_warnings(answer):
    "A live market is asked about drift, too."
    return {k: v for k, v in answer.items() if k != "warnings"}


def near(a, b):
    "Whether two answers are one, numbers to the fifth digit: a carried feature is rounded another way."
    if isinstance(a, dict): return a.keys() == b.keys() and all(near(a[k], b[k]) for k in a)
    if isinstance(a, list): return len(a) == len(b) and all(map(near, a, b))
    return a == pytest.approx(b, rel=1e-5, abs=1e-5) if isinstance(a, float) else a == b


def address(url): return "127.0.0.1", int(url.rpartition(":")[2])


def test_one_core_many_doors(toy_model, tmp_path):
    """Python, REST, batch, file and bridge give one answer; what was recorded is recomputed;
    the log holds no candles; SIGTERM ends it."""
    record = tmp_path/"live.jsonl"
    want = load_predictor(toy_model).predict(recent)
    with ForkedServer("serve", "--model", toy_model, "--port", 0, "--bridge-port", 0, "--record", record,
                      servers=2) as s:
        rest, (host, port) = httpx.Client(base_url=s.urls[0], timeout=PATIENCE), address(s.urls[1])
        assert rest.post("/predict", json=dict(candles=rows)).json() == want
        assert rest.post("/predict_batch", json=dict(series=dict(EURUSD=rows))).json() == dict(
            predictions=dict(EURUSD=want))
        assert rest.post("/predict_csv", content=recent.to_csv().encode()).json() == want
        with BridgeClient(host, port, symbol="EURUSD", timeframe="H1") as bridge:
            assert bridge.predict(recent) == want
            bridge.history(recent[:-1])
            live = bridge.append(recent.iloc[-1])
        assert near(without_warnings(live), without_warnings(want))
        assert rest.get("/info").json()["symbols"] == ["EURUSD"]
        metrics = rest.get("/metrics").text
        assert ('natron_requests_total{code="ok",kind="append",server="bridge"} 1.0' in metrics
                and 'natron_requests_total{code="200",kind="/predict",server="rest"} 1.0' in metrics)
        rest.close()
        log = logged(s)
        assert s.p.exitcode == 0
    assert {"serving", "request"} <= {l["event"] for l in log} and str(rows[-1]["close"]) not in json.dumps(log)

    r = forked(run_natron, ["replay", record, "--model", toy_model], folder=tmp_path)
    assert r.returncode == 0 and "0 differences" in r.stdout, r.stdout + r.stderr
    lines = record.read_text().splitlines()
    record.write_text("\n".join([*lines[:-1], lines[-1].replace('"confidence":0.', '"confidence":1.')]) + "\n")
    r = forked(run_natron, ["replay", record, "--model", toy_model], folder=tmp_path)
    assert r.returncode == 1 and f"line {len(lines)}: confidence" in r.stdout, r.stdout + r.stderr


def test_a_policy_acts_by_every_road(toy_model, tmp_path):
    """Action and probabilities are one by Python, REST, batch, file, bridge and replay,
    for the account that is stated; what was found of the policy is told."""
    path, record = tmp_path/"acting.pt", tmp_path/"live.jsonl"
    save_acting(toy_model, path)
    p, held = load_predictor(path), dict(position=-1, unrealised=-.02, drawdown=.05)
    flat, sunk = p.predict(recent), p.predict(recent, None, held)
    assert flat["rl_probs"] != sunk["rl_probs"]
    with ForkedServer("serve", "--model", path, "--port", 0, "--bridge-port", 0, "--record", record, servers=2) as s:
        rest, (host, port) = httpx.Client(base_url=s.urls[0], timeout=PATIENCE), address(s.urls[1])
        assert rest.post("/predict", json=dict(candles=rows)).json() == flat
        assert rest.post("/predict", json=dict(candles=rows, account=held)).json() == sunk
        assert rest.post("/predict_batch", json=dict(series=dict(EURUSD=rows))
                         ).json()["predictions"]["EURUSD"]["rl_probs"] == flat["rl_probs"]
        assert rest.post("/predict_csv", content=recent.to_csv().encode()).json() == flat
        refusal = rest.post("/predict", json=dict(candles=rows, account=dict(position=2)))
        assert (refusal.status_code, refusal.json()["field"]) == (422, "account.position")
        with BridgeClient(host, port, symbol="EURUSD", timeframe="H1") as bridge:
            follower = BridgeClient(host, port).subscribe("EURUSD")
            assert bridge.predict(recent, account=held) == sunk
            bridge.history(recent[:-1])
            live = bridge.append(recent.iloc[-1], account=held)
            assert next(follower)["data"] == live
        assert rest.get("/info").json()["policy"]["verdict"] == VERDICT
        rest.close()
        s.stop(signal.SIGINT)
        assert s.p.exitcode == 0                           # as of SIGTERM: a server that is stopped has done its work
    assert near(without_warnings(live), without_warnings(sunk))
    assert live["model"]["policy"]["sentence"] == VERDICT["sentence"]

    r = forked(run_natron, ["replay", record, "--model", path], folder=tmp_path)
    assert r.returncode == 0 and "0 differences" in r.stdout, r
    r = forked(run_natron, ["info", "--model", path], folder=tmp_path)
    assert "verdict   This policy adds nothing." in r.stdout
    r = forked(run_natron, ["export", "--model", path, "--to", tmp_path/"network.onnx"], folder=tmp_path)
    assert r.returncode == 0, r
    session = ort.InferenceSession(tmp_path/"network.onnx", providers=["CPUExecutionProvider"])
    w = p.window(recent)
    out = session.run(["rl"], dict(x=w.x[None], mask=w.mask[None], account=np.array([[-1, -.02, .05]], np.float32)))[0]
    probs = np.exp(out[0] - out.max())/np.exp(out[0] - out.max()).sum()
    assert np.abs(probs - [*sunk["rl_probs"].values()]).max() <= 1e-5


def test_a_web_page_does_not_cut_off_the_terminal(toy_model, tmp_path):
    """A page floods the server from the user's own browser, then a program of the same address does:
    the terminal's candles are all answered, and recording and log stay small."""
    record, page = tmp_path/"live.jsonl", {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    with ForkedServer("serve", "--model", toy_model, "--port", 0, "--bridge-port", 0, "--record", record,
                      "--rate", "40/5 second", servers=2) as s:
        with (httpx.Client(base_url=s.urls[0], timeout=PATIENCE) as web,
              BridgeClient(*address(s.urls[1]), symbol="EURUSD", timeframe="H1") as terminal):
            terminal.history(recent[:-30])
            assert {web.post("/predict_csv", content=recent.to_csv(), headers=page).status_code
                    for _ in range(100)} == {403}
            assert {web.get("/metrics", headers={"Sec-Fetch-Site": "cross-site"}).status_code
                    for _ in range(20)} == {403}
            assert web.post("/gradio_api/queue/join", json=dict(data=[], fn_index=1), headers=page).status_code == 403
            flood = lambda: web.post("/predict", content=b"{", headers={"Content-Type": "application/json"}).status_code
            assert any(flood() == 429 for _ in range(5_000))
            for _, row in recent[-30:].iterrows(): assert terminal.append(row)["model"]["instruments"] == ["EURUSD"]
            while flood() == 429: time.sleep(.1)                                  # until it is forgotten
            assert [web.post("/predict", content=b" "*20_000_000).status_code for _ in range(2)] == [413, 413]
            assert web.post("/gradio_api/queue/join",
                            json=dict(data=[], fn_index=99_999, session_hash="x")).status_code == 400
        log = logged(s)
    assert oct(record.stat().st_mode & 0o777) == "0o600" and len(record.read_text().splitlines()) == 1 + 1 + 30
    assert {l["level"] for l in log} == {"INFO"} and sum(l.get("code") in (403, 429) for l in log) < 12


def test_guesses_at_the_token_count_together(toy_model):
    """Ten wrong tokens of an address in a minute, by REST, page and bridge;
    then none is looked at, and the log has the sum."""
    with ForkedServer("serve", "--model", toy_model, "--port", 0, "--bridge-port", 0, servers=2,
                      NATRON_TOKEN="secret") as s:
        with (httpx.Client(base_url=s.urls[0], timeout=PATIENCE) as web,
              BridgeClient(*address(s.urls[1]), token="secret") as friend):
            tried = [web.get("/info", headers={"Authorization": f"Bearer {k}"}).status_code for k in range(4)]
            tried += [web.post("/enter", data=dict(token=f"{k}")).status_code for k in range(3)]
            assert tried == [403]*7
            for k in range(3):
                with pytest.raises(BridgeError, match="not the server's token"):
                    BridgeClient(*address(s.urls[1]), token=f"{k}")
            assert {web.post("/predict", json={}, headers={"Authorization": "Bearer secret"}).status_code
                    for _ in range(20)} == {429}
            assert web.post("/enter", data=dict(token="secret")).status_code == 429
            with pytest.raises(BridgeError, match="too many wrong tokens"):
                BridgeClient(*address(s.urls[1]), token="secret")
            assert friend.ping() > 0
        log = logged(s)
    assert sum(l.get("code") in (403, 429, "unauthorized") for l in log) < 15 and "secret" not in json.dumps(log)


def test_what_cannot_be_served_is_said_in_one_line(toy_model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        damaged = tmp_path/"damaged.pt"
        b = bytearray(toy_model.read_bytes())
        b[5000] ^= 1
        damaged.write_bytes(b)
        tries = {"NATRON_TOKEN": ["serve", "--model", toy_model, "--host", "0.0.0.0", "--port", 0],
                 "Address already in use": ["bridge", "--model", toy_model, "--port", port],
                 "damaged": ["serve", "--model", damaged, "--port", 0],
                 "expected auto": ["bridge", "--model", toy_model, "--port", 0, "--engine", "fast"],
                 "200/second": ["serve", "--model", toy_model, "--port", 0, "--rate", "fast"],
                 "--tls-cert": ["serve", "--model", toy_model, "--port", 0, "--tls-cert", toy_model]}
        for says, args in tries.items():
            r = forked(run_natron, args, folder=tmp_path)
            told = [l for l in r.stderr.splitlines() if not l.startswith("{")]
            assert r.returncode == 2 and r.stdout == "" and len(told) == 1 and says in told[0], (says, r)


def test_schemathesis_finds_nothing(toy_model, tmp_path):
    """All checks of schemathesis against the published schema, with a token.
    What JSON Schema cannot say (candles that go up in time, highs above lows) makes 422 an honest answer
    to what fits the schema."""
    config = tmp_path/"schemathesis.toml"
    config.write_text('[checks]\npositive_data_acceptance.expected-statuses = ["2xx", 401, 403, 413, 422, 429]\n')
    with ForkedServer("serve", "--model", toy_model, "--port", 0, "--rate", "100000/second",
                      NATRON_TOKEN="secret") as s:
        httpx.get(f"{s.urls[0]}/health", timeout=PATIENCE)
        r = subprocess.run([str(Path(sys.executable).parent/"schemathesis"), "--config-file", str(config),
                            "run", f"{s.urls[0]}/openapi.json", "--header", "Authorization: Bearer secret",
                            "--checks", "all", "--exclude-checks", "ignored_auth", "--max-examples", "20",
                            "--seed", "1", "--no-color", "--request-timeout", str(PATIENCE)],
                           capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path)
        assert r.returncode == 0, r.stdout[-6000:] + r.stderr[-2000:]
        log = logged(s)
    assert not [l for l in log if l.get("code") == 500] and "secret" not in json.dumps(log)


def test_the_page_can_be_left_out(toy_model):
    "Without it there is REST alone."
    with ForkedServer("serve", "--no-app", "--model", toy_model, "--port", 0) as s:
        assert httpx.get(s.urls[0], timeout=PATIENCE).status_code == 404
        assert httpx.get(f"{s.urls[0]}/health", timeout=PATIENCE).status_code == 200


def test_a_finished_demonstration_is_shown(toy_model, tmp_path):
    "`natron demo --app` takes the run that is there."
    (tmp_path/"runs/demo").mkdir(parents=True)
    shutil.copy(toy_model, tmp_path/"runs/demo")
    (tmp_path/"runs/demo/manifest.json").touch()
    p = subprocess.Popen([natron, "demo", "--app", "--port", "0"], cwd=tmp_path,
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        said = p.stdout.readline()
        assert "runs/demo/natron_v2.pt listens at http://127.0.0.1:" in said
        assert ("Natron on EURUSD" in httpx.get(said.split()[-1], timeout=PATIENCE).text
                and [f.name for f in (tmp_path/"runs").iterdir()] == ["demo"])
    finally:
        p.kill()
        p.wait()
        p.stdout.close()
