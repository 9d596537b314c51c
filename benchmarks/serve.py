"""How fast it answers: the default model of 5.6 million weights, 512 candles in, a dictionary out:
`python benchmarks/serve.py`.

In one run: Python (on one core) by each engine, beside the network alone in eager torch, and the demonstration's
network by each engine; REST with one client; the bridge with 32 clients that predict and one that pings; the bridge's
lines a second beside those of an echo server that does nothing else; memory. Servers are processes of their own on this
machine, so clients and servers share its cores. The model is untrained, which makes no difference to the time; the
candles are simulated. Everything is measured in turn, `--rounds` times for `--seconds` each: on a shared machine the
rounds tell how much is its neighbours'.
`--out FILE` appends the tables to a file. A GPU is measured where there is one.
"""
import argparse, http.client, json, os, socket, subprocess, sys, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"): os.environ.setdefault(name, "1")
import numpy as np, onnxruntime, psutil, torch
from natron.bridge import BridgeClient
from natron.bundle import load_bundle, save_bundle
from natron.candles import simulate_candles
from natron.config import load_config
from natron.dataset import prepare
from natron.calibrate import fit_scenarios
from natron.finetune import make_bundle
from natron.model import count_parameters, new_model
from natron.predictor import load_predictor
from common import cpu_name, save, table

ECHO = """
import asyncio
class Echo(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(data)
async def main():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(f"echo listens at tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()
try: import uvloop; uvloop.run(main())
except ImportError: asyncio.run(main())
"""


@dataclass
class Measure:
    "What is measured, what is asked of it, and what each round gave."
    name: str
    asked: str = ""
    rounds: list = field(default_factory=list)


def make_model(path, config="natron"):
    "The model of a configuration, untrained, on simulated candles."
    cfg = load_config(Path(__file__).parent.parent/f"configs/{config}.yaml")
    c = simulate_candles(8000, seed=1)
    prep = prepare({"SIM": c}, cfg)
    model = new_model(prep).eval()
    save_bundle(make_bundle(model, prep, {"SIM": c}, scenarios=fit_scenarios(prep, model)), path)
    return count_parameters(model)


def timed(f, seconds, least=50):
    "Milliseconds of each call within these seconds, after some that do not count."
    for _ in range(5): f()
    took, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < least:
        t = time.perf_counter()
        f()
        took.append((time.perf_counter()-t)*1e3)
    return np.array(took)


class Server:
    "A server process and where it listens."
    def __init__(self, *command, servers=1):
        self.p = subprocess.Popen([sys.executable, *map(str, command)],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.ports = [int(self.p.stdout.readline().rpartition(":")[2]) for _ in range(servers)]

    def __enter__(self): return self
    def __exit__(self, *e):
        self.p.terminate()
        self.p.wait(20)

    def megabytes(self): return psutil.Process(self.p.pid).memory_info().rss/1e6


def natron(*args): return ("-c", "from natron.cli import main; main()", *args)


def in_python(path, candles):
    "What is measured in this process, and the call: the network alone, `predict` with each engine, `append`."
    bundle = load_bundle(path)
    net = bundle.model()
    x, mask = (torch.zeros(1, bundle.window_length, len(bundle.feature_columns)),
               torch.ones(1, bundle.window_length, len(bundle.feature_columns), dtype=torch.bool))
    @torch.inference_mode()
    def alone(): net(x, mask)

    chosen, *others = [load_predictor(path, "cpu", e) for e in ("auto", "int8", "torch")]
    live, step, t = load_predictor(path, "cpu"), candles.index[-1]-candles.index[-2], candles.index[-1]
    live.append("SIM", candles)
    def one():
        nonlocal t
        t += step
        live.append("SIM", dict(candles.iloc[-1], time=t))

    out = [(Measure("eager torch, the network alone"), alone),
           (Measure(f"predict, engine {chosen.engine.name} (chosen)", "6 / 15"), lambda: chosen.predict(candles)),
           *((Measure(f"predict, engine {p.engine.name}"), lambda p=p: p.predict(candles)) for p in others),
           (Measure(f"append, engine {live.engine.name}"), one)]
    if torch.cuda.is_available():
        gpu = load_predictor(path, "cuda")
        out.append((Measure(f"predict on {torch.cuda.get_device_name()}", "3 / -"), lambda: gpu.predict(candles)))
    return out


def engines_of(path, candles, about):
    "`predict` with each engine."
    loaded = [load_predictor(path, "cpu", e) for e in ("onnx", "int8", "torch")]
    return [(Measure(f"{about}: predict, engine {p.engine.name}"), lambda p=p: p.predict(candles)) for p in loaded]


def on_one_core(f, seconds):
    "Milliseconds of each call."
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    try: return timed(f, seconds)
    finally: os.sched_setaffinity(0, cores)


def over_rest(port, body, seconds):
    "Milliseconds of each request of one client."
    c = http.client.HTTPConnection("127.0.0.1", port)
    def one():
        c.request("POST", "/predict", body, {"Content-Type": "application/json"})
        r = c.getresponse()
        said = r.read()
        if r.status != 200: raise RuntimeError(said)
    return timed(one, seconds)


def crowd(port, line, seconds, clients=32):
    "Milliseconds of pings while so many clients predict, and predictions a second; a wrong answer is raised."
    stop, counts, ms = threading.Event(), [0]*clients, []
    def predict(k):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
            lines = s.makefile("rb")
            while not stop.is_set():
                s.sendall(line)
                m = json.loads(lines.readline())
                if m["type"] == "prediction": counts[k] += 1
                elif m["code"] not in ("busy", "rate_limited"): raise RuntimeError(m)

    with ThreadPoolExecutor(clients) as pool, BridgeClient(port=port) as client:
        asked = [pool.submit(predict, k) for k in range(clients)]
        try:
            time.sleep(1)
            counts[:] = [0]*clients
            start = time.perf_counter()
            while time.perf_counter() < start + seconds:
                ms.append(1e3*client.ping())
                time.sleep(.005)
            rate = sum(counts)/(time.perf_counter()-start)
        finally: stop.set()
        for f in asked: f.result()
    return np.array(ms), rate


def lines_a_second(port, line, seconds, connections=4, ahead=16):
    "Lines that come back a second, each connection with so many under way."
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    got, block, end = 0, line*ahead, time.perf_counter() + seconds
    start = time.perf_counter()
    for s in socks: s.sendall(block)
    while time.perf_counter() < end:
        for s in socks:
            left = ahead
            while left:
                part = s.recv(1 << 20)
                if not part: raise ConnectionError("the server has closed the connection")
                n = part.count(b"\n")
                left -= n
                got += n
            s.sendall(block)
    took = time.perf_counter() - start
    for s in socks: s.close()
    return got/took


def times(measures):
    "A table of milliseconds: medians over the rounds, and how far the rounds' own medians lie apart."
    def row(m):
        mid, late = [np.median(ms) for ms in m.rounds], [np.quantile(ms, .99) for ms in m.rounds]
        return (m.name, f"{np.median(mid):.2f}", f"{np.median(late):.2f}", f"{min(mid):.2f} - {max(mid):.2f}", m.asked)
    return table(["512 candles to a dictionary, ms", "median", "99 %", "medians of the rounds", "asked"],
                 map(row, measures))


def rates(measures):
    "A table of what is done in a second."
    return table(["a second", "median", "rounds", "asked"],
                 [(m.name, f"{np.median(m.rounds):,.0f}", f"{min(m.rounds):,.0f} - {max(m.rounds):,.0f}", m.asked)
                  for m in measures])


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--rounds", type=int, default=5)
    a.add_argument("--seconds", type=float, default=3)
    a.add_argument("--out", type=Path)
    a = a.parse_args()

    rest, requests = Measure("REST, one client", "- / 50"), Measure("REST, one client: requests a second", "100")
    pings = Measure("ping, while 32 clients predict over the bridge", "- / 20")
    predictions = Measure("bridge, 32 clients: predictions a second")
    lines = Measure("bridge: lines of 96 candles a second, parsed, checked, echoed", "15,000")
    echoed = Measure("bare echo server: the same lines a second")
    with tempfile.TemporaryDirectory() as d:
        path = Path(d)/"natron_v2.pt"
        weights = make_model(path)
        candles = simulate_candles(512, seed=2)
        rows = [dict(time=t.isoformat(), **r) for t, r in candles.iterrows()]
        body = json.dumps(dict(candles=rows)).encode()
        line = json.dumps(dict(type="predict", candles=rows)).encode() + b"\n"
        ping = json.dumps(dict(type="ping", data=[dict(time=int(t.timestamp()), **r)
                                                  for t, r in candles.iloc[:96].iterrows()])).encode() + b"\n"
        print(about := f"{weights:,} weights, file {path.stat().st_size/1e6:.0f} MB; "
              f"{cpu_name()}, {os.cpu_count()} cores; "
              f"torch {torch.__version__.partition('+')[0]}, ONNX Runtime {onnxruntime.__version__}; "
              f"{a.rounds} rounds of {a.seconds:g} s each")
        make_model(small := Path(d)/"demo.pt", "demo")
        calls = in_python(path, candles) + engines_of(small, candles, "the demonstration's network")

        with Server(*natron("serve", "--model", path, "--port", 0, "--bridge-port", 0, "--rate", "1000000/second"),
                    servers=2) as s, Server("-c", ECHO) as echo:
            for _ in range(a.rounds):
                for m, f in calls: m.rounds.append(on_one_core(f, a.seconds))
                took = over_rest(s.ports[0], body, a.seconds)
                rest.rounds.append(took)
                requests.rounds.append(1e3/took.mean())
                took, rate = crowd(s.ports[1], line, a.seconds)
                pings.rounds.append(took)
                predictions.rounds.append(rate)
                lines.rounds.append(lines_a_second(s.ports[1], ping, a.seconds))
                echoed.rounds.append(lines_a_second(echo.ports[0], ping, a.seconds))
            memory = (f"Memory of the server after all this: {s.megabytes():.0f} MB (asked 1,000). "
                      f"A line of 96 candles has {len(ping)/1e3:.1f} kB.")
    text = [about, times([*(m for m, _ in calls), rest, pings]), rates([requests, predictions, lines, echoed]), memory]
    print(*text[1:], sep="\n\n")
    save(a.out, text)
