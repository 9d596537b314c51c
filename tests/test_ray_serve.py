"""Two replicas on Ray Serve, and one killed under load: which errors a client sees,
and that it gets every answer when it asks again."""
import collections, http.client, importlib.util, json, os, signal, threading, time, urllib.error, urllib.request
import psutil, pytest
from natron.candles import sample_candles
from natron.predictor import load_predictor
from served import PATIENCE, ForkedServer, ray_started

pytestmark = pytest.mark.xdist_group("ray")

CLIENTS = 4
candles = sample_candles()
bodies = [candles[-512-k:len(candles)-k].to_csv().encode() for k in range(CLIENTS)]


def post(url, body):
    "Status and body of an answer."
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/predict_csv", body), timeout=PATIENCE) as r:
            return r.status, r.read()
    except urllib.error.HTTPError as e: return e.code, e.read()


def get(url, path):
    with urllib.request.urlopen(f"{url}{path}", timeout=PATIENCE) as r: return r.read()


def children(server): return psutil.Process(server.p.pid).children(recursive=True)


def replicas(server):
    "The processes that answer."
    return {p.pid for p in children(server)
            if p.status() != psutil.STATUS_ZOMBIE and "ServeReplica" in " ".join(p.cmdline())}


def open_ports(server):
    "Ports of the command and of what it has started that other machines reach."
    listening = [c.laddr for p in children(server) for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert listening
    return [a for a in listening if not a.ip.removeprefix("::ffff:").startswith("127.")]


def until(condition):
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(.1)
    return found


@pytest.fixture(scope="module")
def server(toy_model, tmp_path_factory):
    "`natron serve --replicas 2`, whatever other Ray is known here."
    if not importlib.util.find_spec("ray"): pytest.skip("needs ray")
    home = str(tmp_path_factory.mktemp("home"))            # where Ray keeps a token
    with ray_started(lambda: ForkedServer("serve", "--model", toy_model, "--replicas", "2", "--port", "0",
                                          "--rate", "1000000/second", HOME=home, RAY_ADDRESS="127.0.0.1:1")) as made:
        yield made


class Client(threading.Thread):
    "Asks the same again and again until it is told to stop, and asks again at once where it gets no answer."
    def __init__(self, url, body, stop):
        super().__init__()
        self.url, self.body, self.stop, self.pause = url, body, stop, 0
        self.said, self.failed, self.answers = set(), collections.Counter(), 0

    def run(self):
        while not self.stop.wait(self.pause):
            try: status, said = post(self.url, self.body)
            except (OSError, http.client.HTTPException) as e: status, said = type(e).__name__, b""      # broken off
            if status != 200: self.failed[status] += 1
            else:
                self.said.add(said)
                self.answers += 1


def served_by(url, replica):
    "Predictions of this replica, if it is the one that answers; else 0."
    values = dict(line.rsplit(" ", 1) for line in get(url, "/metrics").decode().splitlines()
                  if not line.startswith("#"))
    if abs(float(values["process_start_time_seconds"]) - psutil.Process(replica).create_time()) > .1: return 0
    return float(values.get('natron_requests_total{code="200",kind="/predict_csv",server="rest"}', 0))


def test_a_replica_is_killed_under_load(server, toy_model):
    url, stop, before = server.urls[0], threading.Event(), replicas(server)
    assert not open_ports(server), "a port is open to other machines"
    assert len(before) == 2 and json.loads(get(url, "/health"))["status"] == "ok"
    clients = [Client(url, b, stop) for b in bodies]
    for c in clients: c.start()
    until(lambda: all(c.said for c in clients))
    killed = before.pop()
    os.kill(killed, signal.SIGKILL)
    for c in clients: c.pause = .2                         # the processors are for the one that starts
    new = until(lambda: replicas(server) - before - {killed}).pop()
    until(lambda: served_by(url, new))                     # it has come in the other's place, and answers
    assert replicas(server) == before | {new}
    so_far = [c.answers for c in clients]
    until(lambda: all(c.answers > n for c, n in zip(clients, so_far)))
    stop.set()
    for c in clients: c.join()
    failed = sum((c.failed for c in clients), collections.Counter())
    # once each, as measured; Ray may learn of it a moment later
    assert set(failed) <= {500} and max(c.failed.total() for c in clients) <= 2, failed
    one = load_predictor(toy_model, "cpu")
    for k, c in enumerate(clients):
        assert len(c.said) == 1                            # by whichever replica, the same bytes
        assert json.loads(c.said.pop()) == json.loads(json.dumps(one.predict(candles[-512-k:len(candles)-k])))
    assert "Traceback" not in server.stop() and "graceful_shutdown" not in server.said()
    assert server.p.exitcode == 0
