"""How fast it answers: the default model of 5.6 million weights, 512 candles in, a dictionary out: `python benchmarks/serve.py`.

In one run: Python (on one core) beside the network alone in eager torch; REST with one client; the bridge with 32 clients that predict and one that pings; the bridge's lines a second
beside those of an echo server that does nothing else; memory. Servers are processes of their own on this machine, so clients and servers share its cores. The model is untrained, which makes no
difference to the time; the candles are simulated. `--seconds` is the time of each measurement, `--out FILE` appends the tables to a file. A GPU is measured where there is one.
"""
import argparse, http.client, json, os, platform, socket, subprocess, sys, tempfile, threading, time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"): os.environ.setdefault(name, "1")
import numpy as np, onnxruntime, psutil, torch
from natron.bridge import BridgeClient
from natron.bundle import load_bundle, save_bundle
from natron.candles import simulate_candles
from natron.core import load_config, seed_everything
from natron.dataset import prepare
from natron.finetune import make_bundle
from natron.model import build_model, count_parameters
from natron.predictor import load_predictor

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


def make_model(path):
    "The default model, untrained, on simulated candles."
    cfg = load_config(Path(__file__).parent.parent/"configs/natron.yaml"); c = simulate_candles(8000, seed=1)
    prep = prepare({"SIM": c}, cfg); seed_everything(0)
    model = build_model(cfg.model, len(prep.columns), prep.labels.tasks, cfg.data.window_length).eval()
    save_bundle(make_bundle(model, prep, {"SIM": c}), path)
    return count_parameters(model)


def timed(f, seconds, least=50):
    "Milliseconds of each call within these seconds, after some that do not count."
    for _ in range(5): f()
    took, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < least: t = time.perf_counter(); f(); took.append((time.perf_counter()-t)*1e3)
    return np.array(took)


def quantiles(ms): return f"{np.median(ms):.2f}", f"{np.quantile(ms, .99):.2f}"


class Server:
    "A server process and where it listens."
    def __init__(self, *command, servers=1):
        self.p = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.ports = [int(self.p.stdout.readline().rpartition(":")[2]) for _ in range(servers)]

    def __enter__(self): return self
    def __exit__(self, *e): self.p.terminate(); self.p.wait(20)
    def megabytes(self): return psutil.Process(self.p.pid).memory_info().rss/1e6


def natron(*args): return ("-c", "from natron.cli import main; main()", *args)


def in_python(path, candles, seconds):
    "Rows of the table for `predict`, on one core, beside the network alone."
    cores = os.sched_getaffinity(0); os.sched_setaffinity(0, {min(cores)}); torch.set_num_threads(1)
    bundle, rows = load_bundle(path), []
    net, engines = bundle.model(), ("auto", "onnx", "torch")
    x, mask = torch.zeros(1, bundle.window_length, len(bundle.feature_columns)), torch.ones(1, bundle.window_length, len(bundle.feature_columns), dtype=torch.bool)
    with torch.inference_mode(): rows.append(("eager torch, the network alone", *quantiles(timed(lambda: net(x, mask), seconds)), ""))
    for engine in engines:
        p = load_predictor(path, "cpu", engine)
        rows.append((f"predict, engine {p.engine.name}" + (" (chosen)" if engine == "auto" else ""), *quantiles(timed(lambda: p.predict(candles), seconds)), "6 / 15" if engine == "auto" else ""))
    p.append("SIM", candles); t = candles.index[-1]; step = candles.index[-1]-candles.index[-2]; p = load_predictor(path, "cpu"); p.append("SIM", candles)
    def one():
        nonlocal t
        t += step; p.append("SIM", dict(candles.iloc[-1], time=t))
    rows.append((f"append, engine {p.engine.name}", *quantiles(timed(one, seconds)), ""))
    os.sched_setaffinity(0, cores)
    if torch.cuda.is_available():
        p = load_predictor(path, "cuda"); rows.append((f"predict on {torch.cuda.get_device_name()}", *quantiles(timed(lambda: p.predict(candles), seconds)), "3 / -"))
    return rows


def over_rest(port, body, seconds):
    "Milliseconds of each request of one client."
    c = http.client.HTTPConnection("127.0.0.1", port)
    def one():
        c.request("POST", "/predict", body, {"Content-Type": "application/json"}); r = c.getresponse(); said = r.read()
        if r.status != 200: raise RuntimeError(said)
    return timed(one, seconds)


def crowd(port, line, seconds, clients=32):
    "Milliseconds of pings while so many clients predict, and predictions a second."
    stop, counts = threading.Event(), [0]*clients
    def predict(k):
        with socket.create_connection(("127.0.0.1", port)) as s:
            answers = s.makefile("rb")
            while not stop.is_set():
                s.sendall(line); m = json.loads(answers.readline())
                if m["type"] == "prediction": counts[k] += 1
                elif m["code"] not in ("busy", "rate_limited"): raise RuntimeError(m)
    threads = [threading.Thread(target=predict, args=(k,), daemon=True) for k in range(clients)]
    for t in threads: t.start()
    with BridgeClient(port=port) as client:
        time.sleep(1); counts[:] = [0]*clients
        start = time.perf_counter(); ms = timed(lambda: (client.ping(), time.sleep(.005)), seconds) - 5; took = time.perf_counter()-start
    stop.set()
    for t in threads: t.join(10)
    return ms, sum(counts)/took


def lines_a_second(port, line, seconds, connections=4, ahead=16):
    "Lines that come back a second, each connection with so many under way."
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    got, block, end = 0, line*ahead, time.perf_counter() + seconds
    start = time.perf_counter()
    for s in socks: s.sendall(block)
    while time.perf_counter() < end:
        for s in socks:
            left = ahead
            while left: part = s.recv(1 << 20); n = part.count(b"\n"); left -= n; got += n
            s.sendall(block)
    took = time.perf_counter() - start
    for s in socks: s.close()
    return got/took


def table(head, rows): return "\n".join("| " + " | ".join(map(str, r)) + " |" for r in (head, ["---"]*len(head), *rows))


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__); a.add_argument("--seconds", type=float, default=8); a.add_argument("--out", type=Path); a = a.parse_args()
    with tempfile.TemporaryDirectory() as d:
        path = Path(d)/"natron_v2.pt"; weights = make_model(path); candles = simulate_candles(512, seed=2)
        rows = [dict(time=t.isoformat(), **r) for t, r in candles.iterrows()]; body = json.dumps(dict(candles=rows)).encode()
        text = [f"{weights:,} weights, file {path.stat().st_size/1e6:.0f} MB; {platform.processor() or platform.machine()}, {os.cpu_count()} cores; torch {torch.__version__.partition('+')[0]}, ONNX Runtime {onnxruntime.__version__}; milliseconds, {a.seconds:g} s each"]
        python = in_python(path, candles, a.seconds)
        with Server(*natron("serve", "--model", path, "--port", 0, "--bridge-port", 0, "--rate", "1000000/second"), servers=2) as s:
            over_rest(s.ports[0], body, 1)
            ms = over_rest(s.ports[0], body, a.seconds); python.append(("REST, one client", *quantiles(ms), "- / 50")); rest = 1e3/ms.mean()
            line = json.dumps(dict(type="predict", candles=rows)).encode() + b"\n"
            ms, predictions = crowd(s.ports[1], line, a.seconds); python.append(("ping, while 32 clients predict over the bridge", *quantiles(ms), "- / 20"))
            ping = json.dumps(dict(type="ping", data=[dict(time=int(t.timestamp()), **r) for t, r in candles.iloc[:96].iterrows()])).encode() + b"\n"
            with Server("-c", ECHO) as echo: pairs = [(lines_a_second(echo.ports[0], ping, a.seconds/4), lines_a_second(s.ports[1], ping, a.seconds/4)) for _ in range(4)]
            plain, bridge = np.median(pairs, axis=0)
            memory = s.megabytes()
        text += [table(["512 candles to a dictionary", "median", "99 %", "asked"], python),
                 table(["", "measured", "asked"], [("REST, one client: requests a second", f"{rest:.0f}", "100"), ("bridge, 32 clients: predictions a second", f"{predictions:.0f}", ""),
                       (f"bridge: lines a second echoed, 96 candles each ({len(ping)/1e3:.1f} kB), parsed and checked", f"{bridge:,.0f}", "15,000"), ("bare echo server: the same lines a second", f"{plain:,.0f}", ""),
                       ("memory of the server after all this, MB", f"{memory:.0f}", "1,000")])]
    print(*text, sep="\n\n")
    if a.out:
        with open(a.out, "a") as f: f.write("\n\n".join(["", f"## {time.strftime('%Y-%m-%d')}, `python {' '.join(sys.argv)}`", *text]) + "\n")
