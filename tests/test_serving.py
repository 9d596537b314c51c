"The servers as a stranger meets them: `natron serve` in a process of its own, and a tool that tries to find what it does not say."
import json, os, signal, socket, subprocess, sys, tempfile, time
from pathlib import Path
import httpx, pytest
from natron.bridge import BridgeClient, BridgeError
from natron.bundle import save_bundle
from natron.candles import sample_candles
from natron.config import load_config
from natron.dataset import prepare
from natron.finetune import finetune, make_bundle
from natron.predictor import load_predictor

natron = str(Path(sys.executable).parent/"natron")
pytestmark = pytest.mark.slow
candles = sample_candles()
recent = candles.iloc[-512:]
rows = [dict(time=t.isoformat(), **r) for t, r in recent.iterrows()]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    "A small model file."
    small = {f"model.{k}": v for k, v in dict(d_model=16, layers=1, heads=2, ffn=32, head_dims=[16]).items()}
    cfg = load_config(**small, **{"data.stride": 24, "train.epochs": 1, "train.tracker": "none"})
    prep, path = prepare({"EURUSD": candles}, cfg), tmp_path_factory.mktemp("model")/"natron_v2.pt"
    save_bundle(make_bundle(finetune(prep)[0], prep, {"EURUSD": candles}), path)
    return path


class Served:
    "A `natron` server process, the addresses that it printed, and its log."
    def __init__(self, *args, servers=1, **env):
        self.log = tempfile.TemporaryFile("w+")  # a pipe that nobody reads would fill, and the server wait
        self.p = subprocess.Popen([natron, *map(str, args)], stdout=subprocess.PIPE, stderr=self.log, text=True, env=os.environ | env)
        self.urls = [self.p.stdout.readline().split()[-1] for _ in range(servers)]

    def stop(self, how=signal.SIGTERM):
        "Seconds until it ended, and its log."
        start = time.monotonic(); self.p.send_signal(how); self.p.wait(timeout=30); seconds = time.monotonic()-start
        self.log.seek(0); return seconds, [json.loads(l) for l in self.log]

    def __enter__(self): return self
    def __exit__(self, *e): self.p.kill(); self.p.wait(); self.p.stdout.close(); self.log.close()


def address(url): return "127.0.0.1", int(url.rpartition(":")[2])


def test_one_core_many_doors(model, tmp_path):
    "Python, REST, batch, file and bridge give one answer; what was recorded is recomputed; the log holds no candles; SIGTERM ends it in time."
    record = tmp_path/"live.jsonl"; want = load_predictor(model).predict(recent)
    with Served("serve", "--model", model, "--port", 0, "--bridge-port", 0, "--record", record, servers=2) as s:
        rest, (host, port) = s.urls[0], address(s.urls[1])
        assert httpx.post(f"{rest}/predict", json=dict(candles=rows), timeout=60).json() == want
        assert httpx.post(f"{rest}/predict_batch", json=dict(series=dict(EURUSD=rows))).json() == dict(predictions=dict(EURUSD=want))
        assert httpx.post(f"{rest}/predict_csv", content=recent.to_csv().encode()).json() == want
        with BridgeClient(host, port, symbol="EURUSD", timeframe="H1") as bridge:
            assert bridge.predict(recent) == want
            bridge.history(recent[:-1]); live = bridge.append(recent.iloc[-1])
        for k, v in want.items():
            for c in v if k.endswith("_probs") else (): assert abs(live[k][c] - v[c]) <= 1e-5
        assert httpx.get(f"{rest}/info").json()["symbols"] == ["EURUSD"]
        metrics = httpx.get(f"{rest}/metrics").text
        assert 'natron_requests_total{code="ok",kind="append",server="bridge"} 1.0' in metrics and 'natron_requests_total{code="200",kind="/predict",server="rest"} 1.0' in metrics
        seconds, log = s.stop()
        assert seconds < 10 and s.p.returncode == 0
    assert {"serving", "request"} <= {l["event"] for l in log} and str(rows[-1]["close"]) not in json.dumps(log)
    r = subprocess.run([natron, "replay", record, "--model", model], capture_output=True, text=True, timeout=120)
    assert r.returncode == 0 and "0 differences" in r.stdout, r.stdout + r.stderr
    lines = record.read_text().splitlines(); record.write_text("\n".join([*lines[:-1], lines[-1].replace('"confidence":0.', '"confidence":1.')]) + "\n")
    r = subprocess.run([natron, "replay", record, "--model", model], capture_output=True, text=True, timeout=120)
    assert r.returncode == 1 and f"line {len(lines)}: confidence" in r.stdout, r.stdout + r.stderr


def test_a_web_page_does_not_cut_off_the_terminal(model, tmp_path):
    "A page floods the server from the user's own browser, then a program of the same address does: the terminal's candles are all answered, and recording and log stay small."
    record, page = tmp_path/"live.jsonl", {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    with Served("serve", "--model", model, "--port", 0, "--bridge-port", 0, "--record", record, "--rate", "40/second", servers=2) as s:
        with httpx.Client(base_url=s.urls[0], timeout=60) as web, BridgeClient(*address(s.urls[1]), symbol="EURUSD", timeframe="H1") as terminal:
            terminal.history(recent[:-30])
            assert {web.post("/predict_csv", content=recent.to_csv(), headers=page).status_code for _ in range(100)} == {403}
            assert {web.get("/metrics", headers={"Sec-Fetch-Site": "cross-site"}).status_code for _ in range(20)} == {403}
            assert web.post("/gradio_api/queue/join", json=dict(data=[], fn_index=1), headers=page).status_code == 403
            assert 429 in {web.post("/predict", content=b"{", headers={"Content-Type": "application/json"}).status_code for _ in range(80)}
            for _, row in recent[-30:].iterrows(): assert terminal.append(row)["model"]["instruments"] == ["EURUSD"]
            time.sleep(1.1)                      # the flood's second is over
            assert [web.post("/predict", content=b" "*20_000_000).status_code for _ in range(2)] == [413, 413]
            assert web.post("/gradio_api/queue/join", json=dict(data=[], fn_index=99_999, session_hash="x")).status_code == 400
        log = s.stop()[1]
    assert oct(record.stat().st_mode & 0o777) == "0o600" and len(record.read_text().splitlines()) == 1 + 1 + 30
    assert {l["level"] for l in log} == {"INFO"} and sum(l.get("code") in (403, 429) for l in log) < 12


def test_guesses_at_the_token_count_together(model):
    "Ten wrong tokens of an address in a minute, by REST, page and bridge; then none is looked at, and the log has the sum."
    with Served("serve", "--model", model, "--port", 0, "--bridge-port", 0, servers=2, NATRON_TOKEN="secret") as s:
        with httpx.Client(base_url=s.urls[0], timeout=60) as web, BridgeClient(*address(s.urls[1]), token="secret") as friend:
            tried = [web.get("/info", headers={"Authorization": f"Bearer {k}"}).status_code for k in range(4)]
            tried += [web.post("/enter", data=dict(token=f"{k}")).status_code for k in range(3)]
            assert tried == [403]*7
            for k in range(3):
                with pytest.raises(BridgeError, match="not the server's token"): BridgeClient(*address(s.urls[1]), token=f"{k}")
            assert {web.post("/predict", json={}, headers={"Authorization": "Bearer secret"}).status_code for _ in range(300)} == {429}
            assert web.post("/enter", data=dict(token="secret")).status_code == 429
            with pytest.raises(BridgeError, match="too many wrong tokens"): BridgeClient(*address(s.urls[1]), token="secret")
            assert friend.ping() > 0
        log = s.stop()[1]
    assert sum(l.get("code") in (403, 429, "unauthorized") for l in log) < 15 and "secret" not in json.dumps(log)


def test_what_cannot_be_served_is_said_in_one_line(model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]; damaged = tmp_path/"damaged.pt"; b = bytearray(model.read_bytes()); b[5000] ^= 1; damaged.write_bytes(b)
        tries = {"NATRON_TOKEN": ["serve", "--model", model, "--host", "0.0.0.0", "--port", 0], "Address already in use": ["bridge", "--model", model, "--port", port],
                 "damaged": ["serve", "--model", damaged, "--port", 0], "expected auto": ["bridge", "--model", model, "--port", 0, "--engine", "fast"], "200/second": ["serve", "--model", model, "--port", 0, "--rate", "fast"],
                 "--tls-cert": ["serve", "--model", model, "--port", 0, "--tls-cert", model]}
        for says, args in tries.items():
            r = subprocess.run([natron, *map(str, args)], capture_output=True, text=True, timeout=60, env={k: v for k, v in os.environ.items() if k != "NATRON_TOKEN"})
            told = [l for l in r.stderr.splitlines() if not l.startswith("{")]
            assert r.returncode == 2 and r.stdout == "" and len(told) == 1 and says in told[0], (says, r)


def test_schemathesis_finds_nothing(model, tmp_path):
    "All checks of schemathesis against the published schema, with a token. What JSON Schema cannot say (candles that go up in time, highs above lows) makes 422 an honest answer to what fits the schema."
    config = tmp_path/"schemathesis.toml"
    config.write_text('[checks]\npositive_data_acceptance.expected-statuses = ["2xx", 401, 403, 413, 422, 429]\n')
    with Served("serve", "--model", model, "--port", 0, "--rate", "100000/second", NATRON_TOKEN="secret") as s:
        httpx.get(f"{s.urls[0]}/health", timeout=60)
        r = subprocess.run([str(Path(sys.executable).parent/"schemathesis"), "--config-file", str(config), "run", f"{s.urls[0]}/openapi.json", "--header", "Authorization: Bearer secret",
                            "--checks", "all", "--exclude-checks", "ignored_auth", "--max-examples", "40", "--seed", "1", "--no-color"], capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert r.returncode == 0, r.stdout[-6000:] + r.stderr[-2000:]
        log = s.stop()[1]
    assert not [l for l in log if l.get("code") == 500] and "secret" not in json.dumps(log)
