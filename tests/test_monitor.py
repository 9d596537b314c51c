"""The alert rules of deploy/alerts.yml, and the options of a server that has a model's age in mind."""
import json, re, shutil, subprocess, threading
from functools import partialmethod
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
import httpx, pytest, yaml
from prometheus_client import generate_latest
from typer.testing import CliRunner
from natron.alerts import Monitor
from natron.bridge import BridgeClient, BridgeError, BridgeServer
from natron.candles import sample_candles
from natron.cli import app
from natron.predictor import load_predictor
from natron.rest import RestServer
from natron.service import Recorder, Service, in_background
from served import PATIENCE

root = Path(__file__).resolve().parent.parent
rules = yaml.safe_load((root/"deploy/alerts.yml").read_text())["groups"][0]["rules"]


@pytest.fixture(scope="module")
def exported(toy_model):
    "Names of the metrics that a server with bridge and monitor has, and what it says of them."
    service = Service(load_predictor(toy_model, "cpu"))
    bridge = BridgeServer(service, port=0)
    Monitor(service)
    service.predictor.start("EURUSD", sample_candles()[-512:])
    text = generate_latest(service.metrics.registry).decode()
    bridge.socket.close()
    return {m[1] for m in re.finditer(r"^(\w+)(?:\{.*\})? [-+.\deN]", text, re.M)}, text


def test_alert_rules_name_what_the_server_exports(exported):
    names, text = exported
    for rule in rules:
        used = set(re.findall(r"natron_\w+|\bup\b", rule["expr"]))
        assert used and used <= names | {"up"}, (rule["alert"], used - names)
        assert set(rule) >= {"alert", "expr", "labels", "annotations"}
    for labels in ('natron_connections{server="bridge"}', 'natron_missing_bars{symbol="EURUSD"}',
                   'natron_drifted{symbol="EURUSD"}', 'natron_webhook_total{result="failed"}'):
        assert labels in text, labels
    assert [r["alert"] for r in rules] == ["NatronModelStale", "NatronMarketDrifted", "NatronMarketSilent",
                                           "NatronBridgeLost", "NatronWebhookFailing", "NatronServerDown"]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool_takes_the_rules():
    r = subprocess.run(["promtool", "check", "rules", str(root/"deploy/alerts.yml")], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout + r.stderr


UP = 'up{job="natron"}'
FIRES = {   # by alert: a series, its values before and while it is to fire, and the minutes that this takes
    "NatronModelStale": ("natron_model_stale", 0, 1, 10),
    "NatronMarketDrifted": ('natron_drifted{symbol="EURUSD"}', 0, 1, 120),
    "NatronMarketSilent": ('natron_missing_bars{symbol="EURUSD"}', 2, 3, 1),
    "NatronBridgeLost": ('natron_connections{server="bridge"}', 1, 0, 1),
    "NatronWebhookFailing": ('natron_webhook_total{result="failed"}', 0, 1, 0),
    "NatronServerDown": (UP, 1, 0, 1)}


def firing(series, minutes):
    "A unit test of promtool: which alerts fire at which minute, of series that have so many values each."
    def at(minute, alerts):
        samples = [dict(labels=f'{{alertname="{a}"}}', value=1) for a in alerts]
        return dict(expr='count by (alertname) (ALERTS{alertstate="firing"})', eval_time=f"{minute}m",
                    exp_samples=samples)
    values = [dict(series=s, values=" ".join(map(str, v))) for s, v in series.items()]
    return dict(interval="1m", input_series=values, promql_expr_test=[at(m, a) for m, a in minutes.items()])


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_each_rule_fires_when_its_time_has_come(tmp_path):
    "Not before, and no other; a server that Prometheus does not know of is missed as well."
    cases = [firing({}, {0: [], 1: ["NatronServerDown"]})]
    for alert, (series, before, while_on, wait) in FIRES.items():
        values = {UP: [1]*300} | {series: [before]*5 + [while_on]*295}
        cases.append(firing(values, {4: [], 4+wait: [], 5+wait: [alert]}))
    test = dict(rule_files=[str(root/"deploy/alerts.yml")], evaluation_interval="1m", tests=cases)
    (tmp_path/"test.yml").write_text(yaml.safe_dump(test))
    r = subprocess.run(["promtool", "test", "rules", str(tmp_path/"test.yml")], capture_output=True, text=True)
    assert r.returncode == 0 and set(FIRES) == {r["alert"] for r in rules}, r.stdout + r.stderr


def test_refused_over_rest_and_bridge(toy_model):
    "503 and an error, both with the code of the warning; a bar from before is answered."
    recent = sample_candles().iloc[-512:]
    later = recent.shift(freq="728D")
    def rows(c): return dict(candles=[dict(time=t.isoformat(), **r) for t, r in c.iterrows()])
    with Service(load_predictor(toy_model, "cpu"), refuse=["stale"]) as service, \
         in_background(rest := RestServer(service, port=0), bridge := BridgeServer(service, port=0)):
        service.deadline = PATIENCE
        web = httpx.Client(base_url=rest.url, timeout=PATIENCE)
        refused, given = (web.post("/predict", json=rows(c)) for c in (later, recent))
        assert (refused.status_code, refused.json()["code"]) == (503, "stale_model")
        assert "the model is stale from 2018-" in refused.json()["message"]
        assert given.status_code == 200 and given.json()["model"]["expires_after"].startswith("2018-")
        assert web.get("/health").json()["stale"] is True
        with BridgeClient(*bridge.address, timeout=PATIENCE) as client, pytest.raises(BridgeError) as e:
            client.predict(later)
        assert e.value.code == "stale_model"


# The commands

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *a): pass


@pytest.fixture
def receiver():
    "An address, and what is posted there."
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    server.heard = []
    thread = threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=.01))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", server.heard
    server.shutdown()
    thread.join()
    server.server_close()


def serve(monkeypatch, toy_model, *options):
    "The service that `natron bridge` makes of these options, and what it says; nothing listens for long."
    import natron.alerts, natron.service
    made = []
    def run(service, *servers):
        made.append(service)
        while not service.metrics.registry.get_sample_value("natron_webhook_total", dict(result="sent")):
            service.closed.wait(.01)
        service.closed.wait(.2)                                # twenty looks more, which say nothing new
        service.stop()
        for s in servers: s.socket.close()
    monkeypatch.setattr(natron.service, "run_servers", run)
    monkeypatch.setattr(natron.service, "log_json", lambda: None)
    eager = partialmethod(natron.alerts.Monitor.__init__, hold=0., drift_hold=0., every=.01)     # looks at once
    monkeypatch.setattr(natron.alerts.Monitor, "__init__", eager)
    r = CliRunner().invoke(app, ["bridge", "--model", str(toy_model), "--port", "0", *options])
    return made, r


def test_served_with_refusal_and_webhook(monkeypatch, toy_model, receiver):
    "The options reach the service, and the receiver hears once that the model is stale."
    url, heard = receiver
    made, r = serve(monkeypatch, toy_model, "--refuse", "stale,drifted", "--webhook", url)
    assert r.exit_code == 0, r.output
    assert made[0].refused == {"stale_model", "drifted"}
    assert [(e["alert"], e["event"], e["symbol"]) for e in heard] == [("stale", "begin", None)]


@pytest.mark.parametrize("options, says", [
    (("--refuse", "old"), "refuse 'old': expected stale or drifted"),
    (("--webhook", "ftp://example.com"), "--webhook: expected an address such as https")])
def test_wrong_options_are_told(monkeypatch, toy_model, options, says):
    made, r = serve(monkeypatch, toy_model, *options)
    assert not made and says in str(r.exception)


def test_reconcile_by_command(toy_model, tmp_path):
    "Without a difference the exit code is 0; with a revised candle and a missed bar 1, and both are named."
    candles, record = sample_candles().iloc[5400:5927], tmp_path/"live.jsonl"
    predictor = load_predictor(toy_model, "cpu")
    with Service(predictor, Recorder(record, predictor)) as service:
        service.submit(("history", "EURUSD", candles[:512]))[0].result()
        for t, row in candles[512:].iterrows():
            service.recorder.clock = lambda: t.timestamp() + 3601
            service.submit(("append", "EURUSD", dict(row, time=t)))[0].result()
    candles.to_csv(tmp_path/"EURUSD.csv")
    def run(*options):
        return CliRunner().invoke(app, ["reconcile", "--recording", str(record),
                                        "--candles", str(tmp_path/"EURUSD.csv"), "--model", str(toy_model), *options])
    r = run()
    assert r.exit_code == 0 and "15 bars, 15 answered in time, 0 differences" in r.output, r.output
    # the last but one
    record.write_text("".join(l for k, l in enumerate(record.read_text().splitlines(True)) if k != 15))
    candles.iloc[520, 3] += .0002                              # the close, between low and high
    candles.to_csv(tmp_path/"EURUSD.csv")
    r = run("--json", "--set", "backtest.spread=2")
    told = json.loads(r.stdout)
    assert r.exit_code == 1 and told["counts"]["candle"] == 1 and told["counts"]["missed"] == 1
    assert told["model"]["expires_after"].startswith("2018-") and set(told["account"]) == {"served", "backtest"}
