"""Tries to break real servers and model files, and says in one table what held:
`python benchmarks/abuse.py [--only NAME ...] [--minutes 10] [--out FILE]`.

Each attack on a server starts its own `natron serve` or `natron bridge` on this machine, with a small model that the
script trains first. A server that dies, that logs anything but its usual lines, or that does not end within half a
minute when it is told to, is broken too. The exit code is 1 if anything is. `--minutes` is the length of the soak;
`--scale 0.01` shrinks the numbers of connections, lines, bits, kills and swaps, to try the script itself. It needs
Linux, psutil and hypothesis, and takes eight minutes beside the soak.
"""
import argparse, http.client, itertools, json, math, multiprocessing, os, platform, random, re, resource, secrets
import selectors, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import hypothesis, hypothesis.strategies as st, numpy as np, orjson, psutil, torch
from natron.bridge import MESSAGES
from natron.bundle import BundleError, load_bundle, save_bundle
from natron.calibrate import fit_scenarios
from natron.candles import sample_candles
from natron.config import load_config
from natron.dataset import prepare
from natron.finetune import finetune, make_bundle
from natron.predictor import MAX_MARKETS, load_predictor
from natron.schema import RequestSchema
from natron.service import Service
from common import table

MB = 1e6
LAUNCH = "from natron.cli import main; main()"
PAGE_POSTS = [("POST", f"/{k}") for k in ("enter", "gradio_api/queue/join", "gradio_api/reset", "gradio_api/cancel")]
PLAN = dict(side="long", stop_chance=.2)
LEAK = """
from natron.predictor import Predictor
kept, answers = [], Predictor.answers
def leaking(self, *asked): kept.append(b"x"*10**6); return answers(self, *asked)
Predictor.answers = leaking
"""
ATTACKS = {}


def attack(asked, good="held", bad="BROKEN"):
    "Register a function of the scene that returns whether it held and what was measured."
    def add(f):
        ATTACKS[f.__name__] = f, asked, good, bad
        return f
    return add


def small_models(folder):
    "The files of two small models, each trained for an epoch with a seed of its own."
    candles = sample_candles()
    paths = [folder/"a.pt", folder/"b.pt"]
    for k, path in enumerate(paths):
        cfg = load_config(**{"model.d_model": 16, "model.layers": 1, "model.heads": 2, "model.ffn": 32,
                             "model.head_dims": [16], "data.stride": 24,
                             "train.epochs": 1, "train.lr": 0.001, "train.tracker": "none", "seed": k})
        prep = prepare({"EURUSD": candles}, cfg)
        model = finetune(prep)[0]
        save_bundle(make_bundle(model, prep, {"EURUSD": candles}, scenarios=fit_scenarios(prep, model)), path)
    return paths


def as_rows(candles):
    return [dict(time=t.strftime("%Y-%m-%dT%H:%M:%SZ"), **r)
            for t, r in zip(candles.index, candles.to_dict("records"))]


class Scene:
    "What all attacks share: two model files, candles and their predictions, and how much is asked."
    def __init__(self, folder, minutes, scale):
        self.folder, self.minutes, self.scale, self.faults = folder, minutes, scale, []
        self.model, self.other = small_models(folder)
        self.candles = sample_candles().iloc[-2000:]
        self.recent = self.candles.iloc[-512:]
        self.rows = as_rows(self.recent)
        predictor = load_predictor(self.model, "cpu")
        self.expected, self.plan = predictor.predict(self.recent), predictor.plan(self.recent, **PLAN)
        self.batch = {k: predictor.predict(self.recent.iloc[-n:], symbol=k) for k, n in (("A", 512), ("B", 96))}

    def times(self, n): return max(10, round(n*self.scale))


class Server:
    "A process of `natron serve` or `natron bridge`, and what it takes of the machine."
    def __init__(self, process, urls):
        self.process, self.memory = process, psutil.Process(process.pid)
        for url in urls:
            setattr(self, "rest" if url.startswith("http") else "bridge", ("127.0.0.1", int(url.rpartition(":")[2])))

    def rss(self): return self.memory.memory_info().rss
    def files(self): return self.memory.num_fds()


@contextmanager
def running(scene, command, *options, code=LAUNCH, env={}):
    "A server while the block runs; notes in the scene if it died, complained or did not end well."
    log, wanted = scene.folder/f"{command}.log", 1 + ("--bridge-port" in options)
    env = {k: v for k, v in os.environ.items() if k != "NATRON_TOKEN"} | env
    args = [sys.executable, "-c", code, command, "--model", scene.model, "--device", "cpu", "--port", "0",
            *([] if "--rate" in options else ["--rate", "100000/second"]), *options]
    with open(log, "wb") as stderr:
        process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=stderr, text=True,
                                   cwd=Path(__file__).parents[1], env=env)
    timer = threading.Timer(120, process.kill)
    timer.start()
    try:
        urls = [m[1] for line in itertools.islice(process.stdout, wanted)
                if (m := re.search(r"listens at (\S+)", line))]
        if len(urls) < wanted: raise RuntimeError(f"the server did not start: {log.read_text()[-500:]}")
        server = Server(process, urls)
        if hasattr(server, "bridge") and "NATRON_TOKEN" not in env: Bridge(server.bridge, timeout=120).close()
        if hasattr(server, "rest"): ask_health(server.rest, 120)
        timer.cancel()
        yield server
        if process.poll() is not None: scene.faults.append(f"the server died with {process.returncode}")
        process.terminate()
        if until(lambda: process.poll() is not None, 30) is None:
            scene.faults.append("the server did not end within 30 s of SIGTERM")
        elif process.returncode: scene.faults.append(f"the server ended with {process.returncode}")
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
        scene.faults += complaints(log)
        log.unlink()


def complaints(log):
    "What a log says beyond level INFO, uvicorn's word for what is no HTTP, and alerts that candles of 2017 are due."
    usual = re.compile(r'.*"level": "INFO"|.*"event": "Invalid HTTP request received\."|'
                       r'.*"event": "begin", "alert": "(stale|silent_market)"|$')
    with open(log, errors="replace") as f: odd = [line for o in f if not usual.match(line := o.strip())]
    causes = Counter(o[:120] for o in odd
                     if re.match(r"[\w.]*(Error|Exception|Out\w+|Warning)\b", o) or o.startswith("{"))
    return [f"{len(odd):,} lines of complaints in the log: "
            f"{'; '.join(f'{n} times {o}' for o, n in causes.most_common(5)) or odd[-1][:200]}"] if odd else []


class Bridge:
    "A plain connection to the bridge, which knows nothing of Natron's own client."
    def __init__(self, address, timeout=30.):
        self.sock = socket.create_connection(address, timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.sock.makefile("rb")
        assert self.ask(type="ping")["type"] == "pong"

    def ask(self, **message):
        "Send one message; the answer, past whatever is pushed."
        self.sock.sendall(orjson.dumps(dict(message, id=1)) + b"\n")
        while "id" not in (m := self.read()): pass
        return m

    def read(self):
        line = self.lines.readline()
        if not line: raise ConnectionError("closed")
        return orjson.loads(line)

    def close(self):
        self.lines.close()
        self.sock.close()

    def __enter__(self): return self
    def __exit__(self, *e): self.close()


def call(address, method, path, body=None, timeout=30., **headers):
    "Status and JSON of one HTTP request on a connection of its own."
    c = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        c.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        r = c.getresponse()
        return r.status, orjson.loads(r.read())
    finally: c.close()


def ask_health(address, timeout=30.):
    status, said = call(address, "GET", "/health", timeout=timeout)
    if status != 200: raise RuntimeError(f"/health answered {status}: {said}")


def routes(address):
    "Method and path of each route that a server's OpenAPI lists."
    paths = call(address, "GET", "/openapi.json")[1]["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def failures(address):
    "How often a server says that it failed."
    c = http.client.HTTPConnection(*address, timeout=30)
    c.request("GET", "/metrics")
    text = c.getresponse().read().decode()
    c.close()
    return round(sum(map(float, re.findall(r'^natron_requests_total\{code="(?:500|internal)".* (\S+)$', text, re.M))))


def post(address, path, value): return call(address, "POST", path, orjson.dumps(value), Content_Type="application/json")


def seconds(f, *args, **kw):
    start = time.perf_counter()
    f(*args, **kw)
    return time.perf_counter()-start


def until(condition, wait):
    "Seconds until the condition is true; None if it is not after so many."
    start = time.monotonic()
    while not condition():
        if time.monotonic() > start+wait: return None
        time.sleep(.02)
    return time.monotonic()-start


def crowd(address, n): return [socket.create_connection(address, 30) for _ in range(n)]


def hung_up(socks, wait, tick=lambda: None):
    "What each socket said and when it was closed from the other side; calls `tick` again and again meanwhile."
    ended, said, left, start = {}, dict.fromkeys(socks, b""), selectors.DefaultSelector(), time.monotonic()
    for s in socks:
        s.setblocking(False)
        left.register(s, selectors.EVENT_READ)
    while left.get_map() and time.monotonic() < start+wait:
        for key, _ in left.select(.1):
            try: part = key.fileobj.recv(65_536)
            except ConnectionError: part = b""
            said[key.fileobj] += part
            if not part:
                ended[key.fileobj] = time.monotonic()
                left.unregister(key.fileobj)
        tick()
    left.close()
    return said, ended


@attack("1,000 idle connections, then 2,000 more: at most 10 KiB of memory for each of these, "
        "pings of another client within 50 ms (99 %), none left 5 s after all hang up")
def idle(scene):
    n = scene.times(2000)
    with running(scene, "bridge") as server, Bridge(server.bridge) as other:
        for _ in range(5): assert other.ask(type="predict", candles=scene.rows)["data"] == scene.expected
        time.sleep(6)                                        # the server has returned what its start left free
        files, socks = server.files(), crowd(server.bridge, n//2)      # which use up what it could not return
        time.sleep(1)
        before = server.rss()
        socks += crowd(server.bridge, n)
        time.sleep(1)
        each, held = (server.rss()-before)/n/1024, server.files()-files

        pings = []
        for _ in range(2000):
            pings.append(seconds(other.ask, type="ping"))
            time.sleep(.003)
        late = np.quantile(pings, .99)*1e3
        for s in socks: s.close()
        gone = until(lambda: server.files() <= files, 5)
    return each <= 10 and late < 50 and held == len(socks) and gone is not None, \
        f"{held:,} connections, {each:.1f} KiB for each of the last {n:,}; " \
        f"{len(pings):,} pings, 99 % within {late:.1f} ms, at most {max(pings)*1e3:.0f} ms; " \
        f"{'some left after 5 s' if gone is None else f'all gone after {gone:.1f} s'}"


@attack("2,000 connections with 60 kB of a line without end, twice: all closed within 15 s, each told why, "
        "memory within 20 MB of before 10 s later")
def half_written(scene):
    n, figures = scene.times(2000), []
    with running(scene, "bridge") as server, Bridge(server.bridge) as other:
        other.ask(type="predict", candles=scene.rows)
        before = peak = server.rss()
        def look():
            nonlocal peak
            peak = max(peak, server.rss())

        for _ in range(2):
            socks, begun = crowd(server.bridge, n), {}
            for s in socks:
                s.sendall(b'{"type":"ping","data":"' + b"x"*60_000)
                begun[s] = time.monotonic()
            said, ended = hung_up(socks, 25, look)
            told = sum(b'"unfinished_line"' in o for o in said.values())
            longest = max(ended.get(s, float("inf"))-t for s, t in begun.items())
            for s in socks: s.close()
            until(lambda: server.rss()-before <= 20*MB, 10)
            figures.append((len(ended), told, longest, (server.rss()-before)/MB))
        alive = other.ask(type="ping")["type"] == "pong"
    ended, told, longest, kept = zip(*figures)
    return alive and min(ended) == min(told) == n and max(longest) <= 15 and max(kept) <= 20, \
        f"{min(ended):,} closed, {min(told):,} told, the last after {max(longest):.1f} s; " \
        f"memory {before/MB:.0f} MB, peak {(peak-before)/MB:+.0f} MB, " \
        f"{kept[0]:+.0f} MB after the first time, {kept[1]:+.0f} MB after the second"


def watch_health(address, stop, tell):
    """Ask for /health until told to stop or one ask fails, and tell how long each took and what failed;
    for a process of its own, so that nothing but the server delays it."""
    latest, failed = [], ""
    try:
        while not stop.wait(.02): latest.append(seconds(ask_health, address))
    except Exception as e:
        latest.append(float("inf"))
        failed = f" ({type(e).__name__}: {e})"
    tell.send((latest, failed))


@attack("300 connections that dribble headers and 300 that dribble a body, a byte a second: all closed within 15 s, "
        "each GET /health of another client within 100 ms")
def slow_http(scene):
    n, own = scene.times(300), multiprocessing.get_context("fork")
    stop, (hear, tell) = own.Event(), own.Pipe(False)
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n" \
           b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    with running(scene, "serve") as server:
        files = server.files()
        watching = own.Process(target=watch_health, args=(server.rest, stop, tell), daemon=True)
        watching.start()
        tell.close()                                         # a watcher that dies is an end of file
        socks, at = crowd(server.rest, 2*n), {}
        for k, s in enumerate(socks):
            if k >= n: s.sendall(head)
            at[s] = time.monotonic()
        drip = time.monotonic()
        def tick():
            nonlocal drip
            if time.monotonic() < drip: return
            drip += 1
            i = round(time.monotonic()-at[socks[0]])
            for k, s in enumerate(socks):
                with suppress(OSError): s.send(head[i:i+1] if k < n else b"[")
        said, ended = hung_up(socks, 25, tick)
        stop.set()
        latest, failed = hear.recv()
        watching.join()
        told, longest = (sum(o.startswith(b"HTTP/1.1 408") for o in said.values()),
                         max(ended.get(s, float("inf"))-t for s, t in at.items()))
        for s in socks: s.close()
        gone = until(lambda: server.files() <= files, 5)
    return len(ended) == 2*n and longest <= 15 and max(latest) < .1 and gone is not None, \
        f"{len(ended):,} closed, {told:,} with a 408, the last after {longest:.1f} s; " \
        f"{len(latest)} times /health, median {np.median(latest)*1e3:.1f} ms, " \
        f"at most {max(latest)*1e3:.0f} ms{failed}; {'some left after 5 s' if gone is None else 'none left'}"


CODES, LAST = ({"bad_json", "bad_type", "invalid", "busy"},      # of errors that a fuzzed line may cause
               {"line_too_long", "not_http"})                    # that end a connection
NOTHING, CLOSES, LINE, WEB = object(), object(), 1_500_000, b"GET / HTTP/1.1"
NUMBERS = ["NaN", "-Infinity", "1e400", "-1e308", "5e-324", "1e-400", "-0", "0", "-1", "1.5", "true",
           str(2**31), str(2**53+1), str(2**63), str(2**64), "9"*400, "1e15",
           "9999999999", "9223372036", "9223372037", "-9223372037", "7258118399", "01", "0x10", "1_000", "+1"]
TEXTS = ['""', "null", "[]", "{}", '"N"', '"9999-12-31T23:59:59Z"', '"0001-01-01"', '"2262-04-11T23:47:17Z"',
         '"2199-12-31T23:59:59-23:59"', '"1970-01-01T00:00:00+23:59"', '"2017-02-30"',
         '"\\ud800"', '"\\u0000"', '"\\uffff"', '"' + "x"*65 + '"', '[[[{"a":[{}]}]]]', '{"type":"ping"}']


def owed(line, first):
    """The id that the answer to a line must carry, by the protocol's rules:
    NOTHING if none is due, CLOSES if the connection ends with it."""
    if len(line) > LINE or first and re.match(rb"[A-Z]+ \S+ HTTP/\d", line): return CLOSES
    if not line.strip(): return NOTHING
    try: m = orjson.loads(line)
    except orjson.JSONDecodeError: return None
    id = m.get("id") if isinstance(m, dict) else None
    usable = type(id) is int or type(id) is str and len(id) <= 64
    if isinstance(m, dict) and m.get("type") == "pong" and set(m) <= {"type", "id", "data"} and (usable or id is None):
        return NOTHING
    return id if usable else None


def invented(n):
    "Messages that hypothesis thinks up, as JSON."
    scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    value = st.recursive(scalar, lambda v: st.lists(v, max_size=5) | st.dictionaries(st.text(), v, max_size=5),
                         max_leaves=8)
    candle = st.fixed_dictionaries({}, optional={k: value for k in ("time", "open", "high", "low", "close", "volume")})
    known, schema = dict(candle=candle | value, candles=st.lists(candle, max_size=3) | value), RequestSchema(96)
    def message(kind):
        own = {k: known.get(k, value) for k in ("id", *MESSAGES[kind].fields(schema))}
        return st.fixed_dictionaries(dict(type=st.just(kind)), optional=own)
    found = []
    @hypothesis.seed(0)
    @hypothesis.settings(max_examples=n, database=None, deadline=None, phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(st.sampled_from([*MESSAGES]).flatmap(message) | value)
    def collect(v): found.append(json.dumps(v, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    collect()
    return found


class Fuzzer:
    "Lines that are nearly right, from a seed."
    def __init__(self, scene, seed):
        self.rng, self.thought, rows = random.Random(seed), invented(scene.times(4000)), scene.rows
        self.row, self.hours = rows[-1], itertools.count(1_514_764_800, 3600)         # from 2018 on
        self.short = [dict(type="ping", data=17), dict(type="pong", data="x"),
                      dict(type="hello", symbol="S0", timeframe="H1", gmt_offset=7200),
                      dict(type="subscribe", symbol="S1"), dict(type="unsubscribe", symbol="S1"),
                      dict(type="append", symbol="S2", candle=self.row)]
        self.long = [dict(type="predict", candles=rows[-96:]), dict(type="plan", symbol="S1", **PLAN),
                     *(dict(type="history", symbol=f"S{k}", candles=rows[-100:]) for k in range(4))]
        self.ways = [self.valid, self.flipped, self.cut, self.twice, self.spliced,
                     self.controls, self.unicode, self.noise] + [self.replaced]*4 + [self.invented]*2

    def lines(self, n):
        "The next `n` lines, or a few more."
        out = []
        while len(out) < n:
            if self.rng.random() < 2e-5:
                out += [b'{"type":"ping","data":"' + b"x"*self.rng.choice([LINE-100, LINE, LINE+200_000]) + b'"}', WEB]
            else: out += self.rng.choice(self.ways)().split(b"\n")
        return out

    def message(self):
        m = dict(self.rng.choice(self.long if self.rng.random() < .006 else self.short),
                 id=self.rng.choice([None, 7, -2**63, "a", "é"*64]))
        if self.rng.random() < .08:
            m = dict(type="append", symbol=f"S{self.rng.randrange(4)}", candle=self.row | dict(time=next(self.hours)))
        return m

    def text(self): return orjson.dumps(self.message())
    def valid(self): return self.text()
    def noise(self): return self.rng.randbytes(self.rng.randrange(200))

    def cut(self):
        t = self.text()
        return t[:self.rng.randrange(len(t))]

    def spliced(self):
        a, b = self.text(), self.text()
        return a[:self.rng.randrange(len(a))] + b[self.rng.randrange(len(b)):]

    def invented(self): return self.rng.choice(self.thought)

    def flipped(self):
        t = bytearray(self.text())
        for _ in range(self.rng.randint(1, 3)): t[self.rng.randrange(len(t))] ^= 1 << self.rng.randrange(8)
        return bytes(t)

    def twice(self):
        m = self.message()
        k = self.rng.choice(list(m))
        other = self.rng.choice([self.value(), json.dumps(m[k])])
        return orjson.dumps(m).replace(b"{", f'{{"{k}":{other},'.encode("utf-8", "surrogatepass"), 1)

    def inserted(self, what):
        t = self.text()
        i = self.rng.randrange(len(t))
        return t[:i] + what + t[i:]

    def controls(self):
        return self.inserted(bytes(self.rng.choices([*range(9), 11, 12, *range(14, 32), 127],
                                                    k=self.rng.randint(1, 4))))

    def unicode(self):
        return self.inserted("".join(chr(self.rng.randrange(0x110000)) for _ in range(self.rng.randint(1, 9)))
                             .encode("utf-8", "surrogatepass"))

    def value(self):
        "JSON, or nearly, for any field: a huge number, a wrong type, a deep nest, an invention."
        r = self.rng.random()
        if r < .35: return self.rng.choice(NUMBERS)
        if r < .65: return self.rng.choice(TEXTS)
        if r < .75:
            n, (a, b) = (self.rng.choice([5, 100, 250, 300, 900, 1030, 5000]),
                         self.rng.choice([("[", "]"), ('{"a":', "}")]))
            return a*n + "1" + b*n
        return self.invented().decode("utf-8", "surrogatepass")

    def replaced(self):
        "A message with one field of it, or of a candle, replaced."
        m = dict(self.message())
        target = m
        if "candle" in m and self.rng.random() < .8: target = m["candle"] = dict(m["candle"])
        if "candles" in m and self.rng.random() < .8:
            m["candles"], i = list(m["candles"]), self.rng.randrange(96)
            target = m["candles"][i] = dict(m["candles"][i])
        k = self.rng.choice([*target, "more"])
        target[k] = "@@"
        return orjson.dumps(m).replace(b'"@@"', self.value().encode("utf-8", "surrogatepass"), 1)


class Talk:
    "A connection for fuzzing that counts what is due and what comes, in the order of the lines."
    def __init__(self, address, tally): self.address, self.tally, self.sock, self.odd = address, tally, None, []

    def open(self):
        self.sock, self.first = socket.create_connection(self.address, 15), True
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_000_000)
        self.lines = self.sock.makefile("rb")

    def close(self):
        if self.sock:
            self.lines.close()
            self.sock.close()
            self.sock = None

    def send(self, lines):
        "Send lines up to the first that ends the connection; returns the rest."
        if lines[0] == WEB: self.close()
        if not self.sock: self.open()
        self.asked, self.end = [], None
        for i, line in enumerate(lines):
            want = owed(line, self.first)
            self.first = False
            self.tally["lines"] += bool(line.strip())
            if want is not NOTHING: self.asked.append((line, want))
            if want is CLOSES: break
        else: self.end, i = secrets.token_hex(8), len(lines)

        self.tally["due"] += len(self.asked)
        end = b"" if not self.end else b'{"type":"ping","id":"%s"}\n' % self.end.encode()
        with suppress(ConnectionError): self.sock.sendall(b"".join(line + b"\n" for line in lines[:i+1]) + end)
        return lines[i+1:]

    def receive(self):
        """Read the answers to what was sent and compare;
        returns the lines that a connection lost without reason leaves unasked."""
        got, why = [], "closed without a word"
        while True:
            try: line = self.lines.readline()
            except ConnectionError: line = b""
            except TimeoutError:
                line, why = b"", "hung"
                self.tally["hung"] += 1
            m = orjson.loads(line) if line else None
            if m is None or self.end and m.get("id") == self.end: break
            if "id" in m: got.append(m)

        for (line, want), said in zip(self.asked, got):
            if said["id"] != (None if want is CLOSES else want): self.note("answered with another id", line)
            if want is CLOSES or said["type"] == "error":
                if said.get("code") not in (LAST if want is CLOSES else CODES):
                    self.note(f"answered {said.get('code', said['type'])}", line)
        self.tally["answers"] += len(got)
        self.tally.update(said.get("code", said["type"]) for said in got)

        if len(got) > len(self.asked): self.note("more answers than lines", self.asked[-1][0] if self.asked else b"")
        if m is not None:
            if len(got) < len(self.asked):
                self.note("one of some lines not answered", b" | ".join(line for line, _ in self.asked))
            return []
        self.close()
        unsaid = self.asked[len(got):]
        if not unsaid and self.asked and self.asked[-1][1] is CLOSES and why != "hung":
            self.tally["closed with a reason"] += 1
        elif unsaid and unsaid[0][1] is CLOSES and why != "hung": self.tally["closed, the reason lost on the way"] += 1
        else: self.note(f"connection {why}", unsaid[0][0] if unsaid else b"")
        return [line for line, _ in unsaid[1:]]

    def note(self, what, line):
        self.tally["odd"] += 1
        self.odd.append((what, line))


def batches(lines, most=64_000):
    "Runs of lines that fit into the buffers between two processes."
    out, size = [], 0
    for line in lines:
        if out and size+len(line) > most:
            yield out
            out, size = [], 0
        out.append(line)
        size += len(line)
    if out: yield out


def fuzz_lines(address, fuzzer, n, tally):
    "Ask `n` fuzzed lines over four connections; what was odd."
    talks = [Talk(address, tally) for _ in range(4)]
    work, end = (b for _ in itertools.count() for b in batches(fuzzer.lines(200))), tally["lines"]+n
    left = [[] for _ in talks]
    while tally["lines"] < end and tally["odd"] < 3000 and tally["hung"] < 10:
        left = [t.send(rest or next(work)) for t, rest in zip(talks, left)]
        left = [t.receive() + rest for t, rest in zip(talks, left)]
    for t in talks: t.close()
    return [o for t in talks for o in t.odd]


@attack("a million fuzzed lines: each gets one answer with its id, in order, or a closed connection that says why; "
        "memory within 20 MB after a warm-up; right afterwards")
def fuzz(scene):
    n, tally, fuzzer = scene.times(1_000_000), Counter(), Fuzzer(scene, 1)
    with running(scene, "bridge") as server, Bridge(server.bridge) as other:
        owners = [Bridge(server.bridge) for _ in range(4)]             # each keeps its 64 symbols, and no more
        for k in range(256):
            assert owners[k % 4].ask(type="history", symbol=f"S{k}", candles=scene.rows)["type"] == "history"

        first = server.rss()
        odd = fuzz_lines(server.bridge, fuzzer, n//20, tally)
        time.sleep(1)
        before, start, warmed = server.rss(), time.monotonic(), tally["lines"]
        odd += fuzz_lines(server.bridge, fuzzer, n-n//20, tally)
        rate = (tally["lines"]-warmed)/(time.monotonic()-start)
        time.sleep(1)
        grown, warm = (server.rss()-before)/MB, (before-first)/MB
        right = other.ask(type="predict", candles=scene.rows)["data"] == scene.expected
    kinds, example = Counter(what for what, _ in odd), dict(odd)
    for what, line in example.items(): print(f"fuzz: {what}: {line[:600]!r}", file=sys.stderr)
    kinds = ", ".join(f"{k:,} times {what} (`{example[what][:60].decode(errors='replace')}`...)".replace("|", "\\|")
                      for what, k in kinds.items())
    codes = ", ".join(f"{k} {v:,}" for k, v in tally.most_common() if k not in ("lines", "due", "answers", "odd"))
    return not odd and grown <= 20 and right, \
        f"{tally['lines']:,} lines, {rate:,.0f} a second; " \
        f"{tally['due']:,} want an answer, {tally['answers']:,} answers came ({codes}); odd: {kinds or 'none'}; " \
        f"memory {warm:+.1f} MB in the first {warmed:,} lines, {grown:+.1f} MB after them; " \
        f"prediction {'right' if right else 'WRONG'}"


@attack("a page in the user's browser floods every route for 10 s, without a preflight: all 403, "
        "each of a terminal's candles answered meanwhile, 100 log lines at most, nothing recorded")
def web_page(scene):
    record, done, wrong, waits = scene.folder/"flood.jsonl", threading.Event(), [], []
    csv = "\n".join([",".join(scene.rows[0])] + [",".join(map(str, r.values())) for r in scene.rows]).encode()
    def flood(headers):
        said = Counter()
        while not done.is_set():
            for method, path in asked:
                body, kind = (csv, dict(Content_Type="text/plain")) if method == "POST" else (None, {})
                try: code = call_status(server.rest, method, path, body, **kind, **headers)
                except OSError as e: code = type(e).__name__
                said[code] += 1
        return said

    with running(scene, "serve", "--bridge-port", "0", "--record", str(record), "--rate", "200/second") as server, \
         Bridge(server.bridge) as terminal:
        assert terminal.ask(type="history", symbol="EURUSD", candles=as_rows(scene.candles[:512]))["type"] == "history"
        asked = [*routes(server.rest), *PAGE_POSTS, ("GET", "/"), ("GET", "/openapi.json")]
        pages, end = ThreadPoolExecutor(3), time.monotonic()+10
        floods = [pages.submit(flood, h) for h in (
            dict(Origin="https://evil.example"), dict(Origin="null"), dict(Sec_Fetch_Site="cross-site"))]
        try:
            for row in as_rows(scene.candles[512:]):
                if time.monotonic() > end: break
                start = time.perf_counter()
                m = terminal.ask(type="append", symbol="EURUSD", candle=row)
                waits.append(time.perf_counter()-start)
                if m["type"] != "prediction": wrong.append(m)
                time.sleep(.05)
        finally: done.set()
        said = sum((f.result() for f in floods), Counter())
        lines = sum(b'"code": 403' in line for line in (scene.folder/"serve.log").read_bytes().splitlines())
    recorded = len(record.read_bytes().splitlines())
    mode = record.stat().st_mode & 0o777
    return set(said) == {403} and not wrong and lines <= 100 and recorded == len(waits)+2 and mode == 0o600, \
        f"{sum(said.values()):,} requests on {len(asked)} routes: {dict(said)}; {len(waits)} candles, " \
        f"{len(wrong)} not answered {wrong[:1] or ''}, 99 % within {np.quantile(waits, .99)*1e3:.0f} ms; " \
        f"{lines} log lines of refusals, {recorded} lines recorded, file mode {mode:o}"


def call_status(address, *args, **headers):
    "Status alone, of any kind of answer."
    c = http.client.HTTPConnection(*address, timeout=30)
    try:
        c.request(*args, {k.replace("_", "-"): v for k, v in headers.items()})
        return c.getresponse().status
    finally: c.close()


@attack("1,000 guesses at the token by REST, page and bridge each: ten are looked at, 40 log lines at most, "
        "a client that is connected goes on")
def guesses(scene):
    n, said = scene.times(1000), Counter()
    with running(scene, "serve", "--bridge-port", "0", env=dict(NATRON_TOKEN="the-token")) as server:
        with socket.create_connection(server.bridge, 30) as friend:
            lines = friend.makefile("rb")
            friend.sendall(b'{"type":"hello","token":"the-token"}\n')
            assert b"welcome" in lines.readline()
            for k in range(n):
                said[call_status(server.rest, "GET", "/info", None, Authorization=f"Bearer {k}")] += 1
                said[call_status(server.rest, "POST", "/enter", b"token=%d" % k)] += 1
            socks = crowd(server.bridge, n)
            for k, s in enumerate(socks): s.sendall(b'{"type":"hello","token":"guess %d"}\n' % k)
            told, ended = hung_up(socks, 20)
            friend.sendall(b'{"type":"ping"}\n')
            alive = b"pong" in lines.readline()
        log = [line for line in (scene.folder/"serve.log").read_bytes().splitlines()
               if re.search(rb'"code": (403|429|"unauthorized")', line)]
    refused = sum(b"too many wrong tokens" in o for o in told.values())
    return said == {403: 10, 429: 2*n-10} and len(ended) == refused == n and len(log) <= 40 and alive, \
        f"REST and page: {dict(said)}; bridge: {refused:,} of {n:,} told that there were too many; " \
        f"{len(log)} log lines; the connected client {'goes on' if alive else 'IS CUT OFF'}"


@attack("bodies of 20 MB, by clients that send all before they read and close after it, on every route: "
        "each gets to read its 413, 403, 404 or 405; memory within 100 MB")
def big_bodies(scene):
    body, said, lost = b" "*20_000_000, Counter(), Counter()
    with running(scene, "serve") as server:
        asked = {("POST", path): 413 if method == "POST" else 405 for method, path in routes(server.rest)}
        asked |= dict.fromkeys(PAGE_POSTS, 413) | {("POST", "/nowhere"): 404}
        before = peak = server.rss()
        for (method, path), status in list(asked.items())*scene.times(10):
            for more in ({}, dict(Origin="http://evil.example")):
                try: code = call_status(server.rest, method, path, body, Connection="close", **more)
                except OSError as e: code = type(e).__name__
                said[code] += 1
                lost[(path, code)] += code != (403 if more else status)
                peak = max(peak, server.rss())
    lost = {k: n for k, n in lost.items() if n}
    return not lost and peak-before <= 100*MB, \
        f"{dict(said)}; unexpected: {lost or 'none'}; memory {(peak-before)/MB:+.0f} MB at most"


@attack("2,000 made-up symbols over 20 connections: each taken, a connected terminal's symbol stays, "
        f"memory within 60 MB of {MAX_MARKETS} symbols'")
def made_up(scene):
    n = scene.times(2000)
    with running(scene, "bridge") as server, Bridge(server.bridge) as terminal:
        assert terminal.ask(type="history", symbol="EURUSD", candles=scene.rows[:-1])["type"] == "history"
        clients, odd, full = [Bridge(server.bridge) for _ in range(20)], Counter(), None
        for k in range(n):
            m = clients[k % 20].ask(type="history", symbol=f"X{k}", candles=scene.rows[-96:])
            odd[m.get("code", m["type"])] += 1
            if k == min(MAX_MARKETS, n)-1: full = server.rss()
        last = terminal.ask(type="append", symbol="EURUSD", candle=scene.rows[-1])
        grown = (server.rss()-full)/MB
        right = last["type"] == "prediction" and last["data"]["timestamp"] == scene.expected["timestamp"]
        for c in clients: c.close()
    return set(odd) == {"history"} and right and grown <= 60, \
        f"{dict(odd)}; the terminal's next candle {'answered' if right else last}; memory {grown:+.1f} MB"


@attack("1,000 single flipped bits of a model file: none accepted, each refused with a BundleError")
def flipped_bits(scene):
    data, rng, path, refused, odd, n = (scene.model.read_bytes(), random.Random(2), scene.folder/"flipped.pt",
                                        0, Counter(), scene.times(1000))
    for _ in range(n):
        i, bad = rng.randrange(8*len(data)), bytearray(data)
        bad[i//8] ^= 1 << i%8
        path.write_bytes(bad)
        try:
            load_bundle(path)
            odd["accepted"] += 1
        except BundleError: refused += 1
        except Exception as e: odd[type(e).__name__] += 1
    return refused == n, \
        f"{refused:,} of {n:,} refused, otherwise {dict(odd) or 'nothing'}; a file of {len(data):,} bytes"


def killer(path, rounds):
    "Kill a child that saves two models in turn, again and again; prints what stood there each time."
    torch.set_num_threads(1)
    path = Path(path)
    pair = [load_bundle(path), load_bundle(f"{path}.other")]
    rng, seen, broken, half = random.Random(3), Counter(), Counter(), 0
    took = seconds(save_bundle, pair[0], path)
    for _ in range(rounds):
        pid = os.fork()
        while pid == 0:
            for b in pair: save_bundle(b, path)
        time.sleep(rng.random()*3*took)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

        try: seen[load_bundle(path).sha256] += 1
        except BundleError as e: broken[str(e)] += 1
        rest = list(path.parent.glob(f".{path.name}.*.tmp"))
        half += bool(rest)
        for f in rest: f.unlink()
    print(json.dumps(dict(seen=seen, broken=broken, half=half, took=took)))


@attack("kill -9 of a process that overwrites the model file, 200 times: "
        "the file is always one of the two models, whole; each of them is seen, and some kills come amid a write")
def kill_save(scene):
    n, path, sums = scene.times(200), scene.folder/"killed.pt", []
    for k, p in enumerate((path, f"{path}.other")):
        bundle = load_bundle((scene.model, scene.other)[k])
        more = {name: torch.cat([t]*8) for name, t in bundle.reference_outputs.items()}     # 8 MB: a write takes longer
        sums.append(save_bundle(replace(bundle, reference_outputs=more), p))
    run = subprocess.run([sys.executable, __file__, "--killer", str(path), "--rounds", str(n)],
                         capture_output=True, text=True, timeout=1800)
    if run.returncode: return False, f"the killer failed: {run.stderr[-300:]}"
    r = json.loads(run.stdout.splitlines()[-1])
    counts = [r["seen"].get(s, 0) for s in sums]
    return sum(counts) == n and min(counts) > 0 and r["half"] > 0 and not r["broken"], \
        f"{counts[0]} times the one, {counts[1]} times the other, " \
        f"{n-sum(counts)} times neither {r['broken'] or ''}; " \
        f"{r['half']} kills left a half-written file beside it; a save takes {r['took']:.2f} s"


@contextmanager
def little_room(folder, size):
    """A folder with room for `size` bytes, what makes it so,
    and a call that makes it so where no file system may be mounted."""
    place = folder/"full"
    place.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True).returncode == 0
    def limit():
        if not mounted:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size//3, hard))
    try:
        yield (place, "a full tmpfs" if mounted
               else "a limit on the size of a file (RLIMIT_FSIZE), as no tmpfs may be mounted here", limit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        if mounted: subprocess.run(["umount", str(place)], check=True)


@attack("saving where the disk is full: a BundleError that says so, the old file whole, nothing left beside it")
def disk_full(scene):
    old, new = load_bundle(scene.model), load_bundle(scene.other)
    with little_room(scene.folder, round(1.5*scene.model.stat().st_size)) as (place, how, limit):
        path = place/"natron_v2.pt"
        save_bundle(old, path)
        limit()
        try:
            save_bundle(new, path)
            said = "saved all the same"
        except BundleError as e: said = str(e)
        except Exception as e: said = f"{type(e).__name__}: {e}"
        whole, names = load_bundle(path).sha256 == old.sha256, [p.name for p in place.iterdir()]
    return said.startswith("cannot write") and whole and names == [path.name], \
        f"with {how}: \"{said.replace(str(place), 'FOLDER')}\"; " \
        f"the old file is {'whole' if whole else 'GONE'}; in the folder: {', '.join(names)}"


@attack("100 swaps of the model, by a file that takes the watched file's place, while 8 callers ask: "
        "no failed answer, each exactly that of one of the two models")
def swaps(scene):
    n, path, counts, wrong, waits, done = (scene.times(100), scene.folder/"watched.pt", Counter(), [], [],
                                           threading.Event())
    windows = [scene.candles.iloc[-512-37*k:len(scene.candles)-37*k] for k in range(8)]
    files = scene.model, scene.other
    sums = [load_bundle(f).sha256 for f in files]
    def predicted(f):
        shutil.copy(f, path)                                 # answers bear the file's name
        predictor = load_predictor(path, "cpu")
        return [predictor.predict(w) for w in windows]
    said = list(zip(*map(predicted, files)))
    shutil.copy(scene.model, path)
    def ask(k, service):
        while not done.is_set():
            start = time.perf_counter()
            try: answer = service.submit(("predict", None, windows[k]))[0].result(30)
            except Exception as e:
                wrong.append(f"{type(e).__name__}: {e}")
                continue
            waits.append(time.perf_counter()-start)
            if answer not in said[k]: wrong.append(f"another answer: {answer}")
            else: counts[said[k].index(answer)] += 1

    with Service(load_predictor(path, "cpu")) as service:
        service.watch(path, "cpu", every=.02)
        callers, start, late = ([threading.Thread(target=ask, args=(k, service)) for k in range(8)],
                                time.monotonic(), 0)
        for t in callers: t.start()
        try:
            for k in range(1, n+1):
                shutil.copy(files[k%2], f"{path}.new")
                os.replace(f"{path}.new", path)
                late += until(lambda: service.predictor.bundle.sha256 == sums[k%2], 30) is None
        finally: done.set()
        took = time.monotonic()-start
        for t in callers: t.join()
    same = sum(a == b for a, b in said)
    return not wrong and not late and not same and min(counts[0], counts[1]) > 0, \
        f"{n-late} of {n} swaps in {took:.0f} s; " \
        f"{sum(counts.values()):,} answers, {counts[0]:,} and {counts[1]:,} of the two models, " \
        f"{len(wrong)} wrong or failed {wrong[:2] or ''}; the slowest took {max(waits)*1e3:.0f} ms"


def near(a, b):
    "Whether two answers are one but for warnings, numbers to 1e-5: what is carried is rounded another way."
    if isinstance(a, dict): return a.keys() == b.keys() and all(near(a[k], b[k]) for k in a if k != "warnings")
    if isinstance(a, list): return len(a) == len(b) and all(map(near, a, b))
    return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-5) if isinstance(a, float) else a == b


def live_answers(model, candles, symbol):
    "What is right of each bar of a market from its 513th on: (answer, plan) by time."
    predictor, rows = load_predictor(model, "cpu"), range(512, len(candles))
    answers = predictor.predict_bars(candles, rows=rows, symbol=symbol).answers
    plans = (predictor.plan(candles.iloc[k-511:k+1], symbol=symbol, **PLAN) for k in rows)
    return {a["timestamp"]: (a, p) for a, p in zip(answers, plans)}


class Load:
    "Clients of every kind at once, who check and count what they are told."
    def __init__(self, scene, server):
        self.scene, self.server, self.counts, self.wrong, self.done = scene, server, Counter(), [], threading.Event()
        rows = scene.rows
        self.rng = random.Random(4)
        self.one, self.many = orjson.dumps(dict(candles=rows)), orjson.dumps(dict(series=dict(A=rows, B=rows[-96:])))
        self.position = orjson.dumps(dict(candles=rows, **PLAN))
        self.csv = "\n".join([",".join(rows[0])] + [",".join(map(str, r.values())) for r in rows]).encode()
        self.live = as_rows(scene.candles)
        self.right = {s: live_answers(scene.model, scene.candles, s) for s in ("EURUSD", "GBPUSD")}
        clients = (self.predict, self.batch, self.table, self.plan, self.bridge_predict,
                   self.append, self.follow, self.bad, self.pass_by)
        self.threads = [threading.Thread(target=self.again, args=(f,), name=f.__name__) for f in clients]

    def __enter__(self):
        for t in self.threads: t.start()
        return self

    def __exit__(self, *e):
        self.done.set()
        for t in self.threads: t.join(60)
        self.wrong += [f"{t.name} does not end" for t in self.threads if t.is_alive()]

    def again(self, f):
        while not self.done.is_set():
            try: f()
            except Exception as e:
                self.wrong.append(f"{f.__name__}: {type(e).__name__}: {e}"[:200])
                time.sleep(.2)

    def check(self, what, ok, seen):
        self.counts[what] += 1
        if not ok: self.wrong.append(f"{what}: {seen}"[:200])

    def posted(self, path, body, kind, right):
        c = http.client.HTTPConnection(*self.server.rest, timeout=30)
        for _ in range(20):
            c.request("POST", path, body, {"Content-Type": kind})
            r = c.getresponse()
            said = orjson.loads(r.read())
            self.check(path, r.status == 200 and right(said), (r.status, said))
        c.close()

    def predict(self): self.posted("/predict", self.one, "application/json", lambda m: m == self.scene.expected)

    def batch(self):
        self.posted("/predict_batch", self.many, "application/json",
                    lambda m: m["predictions"] == self.scene.batch)

    def table(self): self.posted("/predict_csv", self.csv, "text/csv", lambda m: m == self.scene.expected)

    def plan(self): self.posted("/plan", self.position, "application/json", lambda m: m == self.scene.plan)

    def bridge_predict(self):
        with Bridge(self.server.bridge) as b:
            for _ in range(20):
                m = b.ask(type="predict", candles=self.scene.rows)
                self.check("bridge predict", m.get("data") == self.scene.expected, m)
                for _ in range(5):
                    m = b.ask(type="ping", data=5)
                    self.check("ping", m == dict(type="pong", id=1, data=5), m)

    def append(self):
        with Bridge(self.server.bridge) as b:
            for symbol, right in self.right.items():
                m = b.ask(type="history", symbol=symbol, candles=self.live[:512])
                self.check("history", m["type"] == "history", m)
                for row, (answer, plan) in zip(self.live[512:], right.values()):
                    if self.done.is_set(): return
                    m = b.ask(type="append", symbol=symbol, candle=row)
                    self.check("append", m["type"] == "prediction" and near(answer, m["data"]), m)
                    m = b.ask(type="plan", symbol=symbol, **PLAN)
                    self.check("bridge plan", m["type"] == "plan" and near(plan, m["data"]), m)

    def follow(self):
        with Bridge(self.server.bridge, 60) as b:
            for symbol in self.right:
                self.check("subscribe", (m := b.ask(type="subscribe", symbol=symbol))["type"] == "subscribed", m)
            for _ in range(500):
                if self.done.is_set(): return
                m = b.read()
                right = m["type"] == "ping" or \
                    m["type"] == "prediction" and near(self.right[m["symbol"]][m["data"]["timestamp"]][0], m["data"])
                self.check("pushed", right and "id" not in m, m)
            b.ask(type="unsubscribe", symbol="EURUSD")

    def bad(self):
        rows, js, csv = self.scene.rows, dict(Content_Type="application/json"), dict(Content_Type="text/csv")
        high = orjson.dumps(dict(candles=[*rows[:99], rows[99] | dict(high=.5)]))
        for want, args, headers in (
                *((422, ("POST", "/predict", body), js) for body in (b"{", b'{"candles":[]}', b"["*10_000, high)),
                (413, ("POST", "/predict", b" "*1_600_000), js), (422, ("POST", "/predict_csv", b"\xff\xfe"), csv),
                (404, ("GET", "/nowhere"), {}), (405, ("GET", "/predict"), {}),
                (403, ("GET", "/info"), dict(Host="example.org"))):
            status, said = call(self.server.rest, *args, **headers)
            self.check(f"bad {want}", status == want and set(said) == {"code", "message", "field", "row"},
                       (args[:2], status, said))
        with Bridge(self.server.bridge) as b:
            for m in (dict(type="append", symbol="EURUSD", candle=rows[0] | dict(high=.5)), dict(type="nothing"),
                      dict(type="predict", candles=rows[:5])):
                self.check("bad line", (said := b.ask(**m))["type"] == "error", said)
        time.sleep(.05)

    def pass_by(self):
        "Connect, say something or a part of it, and be gone; half of them rudely."
        words = b"", b"\x16\x03\x01", b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n{", \
            b'{"type":"subscribe","symbol":"EURUSD"}\n{"type":', \
            orjson.dumps(dict(type="predict", candles=self.scene.rows)) + b"\n"
        for address, words in itertools.product((self.server.rest, self.server.bridge), words):
            with socket.create_connection(address, 30) as s:
                s.sendall(words)
                time.sleep(self.rng.random()*.03)
                if self.rng.random() < .5: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.counts["passers-by"] += 1


def soaked(scene, minutes, code=LAUNCH):
    "Growth of a server's memory under load after the first minute, or third; and what else was measured."
    total = 60*minutes
    settle = min(60, total/3)
    with running(scene, "serve", "--bridge-port", "0", code=code) as server:
        with Load(scene, server) as load:
            time.sleep(settle)
            base = top = server.rss()
            start = time.monotonic()
            while time.monotonic() < start+total-settle and top-base < 500*MB:
                time.sleep(.5)
                top = max(top, server.rss())
        failed, calm, files, last = (
            failures(server.rest), until(lambda: call(server.rest, "GET", "/health")[1]["queue"] == 0, 10),
            server.files(), server.rss())
        right = calm is not None and post(server.rest, "/predict", dict(candles=scene.rows)) == (200, scene.expected)
        with Bridge(server.bridge) as b:
            right &= b.ask(type="predict", candles=scene.rows).get("data") == scene.expected
    counts = ", ".join(f"{k} {v:,}" for k, v in sorted(load.counts.items()))
    return (top-base)/MB, right and not load.wrong and not failed, \
        f"{minutes:g} minutes; memory {base/MB:.0f} MB after {settle:.0f} s, " \
        f"then {(top-base)/MB:+.1f} MB at most, {(last-base)/MB:+.1f} MB at the end; {files} open files; " \
        f"{sum(load.counts.values()):,} requests ({counts}), {failed} failed in the server, " \
        f"{len(load.wrong)} wrong {load.wrong[:2] or ''}; " \
        f"at the end {'right' if right else 'WRONG'}"


@attack("mixed load of all kinds of clients: memory grows by less than 100 MB after the first minute, "
        "no answer that is wrong, a 500 or a 503")
def soak(scene):
    grown, right, measured = soaked(scene, scene.minutes)
    return right and grown < 100, measured


@attack("the control: the same load on a server that keeps 1 MB of every call must fail by the same measure",
        good="found", bad="NOT FOUND")
def control(scene):
    grown, _, measured = soaked(scene, min(scene.minutes, .5), LEAK+LAUNCH)
    return grown >= 100, measured


def run_attack(name, scene):
    "One row of the table, and whether it held."
    f, asked, good, bad = ATTACKS[name]
    scene.faults, start = [], time.monotonic()
    try: ok, measured = f(scene)
    except Exception as e: ok, measured = False, f"it could not be carried out: {type(e).__name__}: {e}"
    ok &= not scene.faults
    verdict = good if ok else bad
    print(f"{name}: {verdict}, {time.monotonic()-start:.0f} s", file=sys.stderr, flush=True)
    return (name.replace("_", " "), asked, "; ".join([measured, *scene.faults]).replace("\n", " "), verdict), ok


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS), metavar="NAME", help=", ".join(ATTACKS))
    p.add_argument("--minutes", type=float, default=10., help="how long the soak lasts")
    p.add_argument("--out", help="append the table to this file")
    p.add_argument("--scale", type=float, default=1., help="part of the connections, lines, bits, kills and swaps")
    p.add_argument("--killer", help=argparse.SUPPRESS)
    p.add_argument("--rounds", type=int, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.killer: return killer(a.killer, a.rounds)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), a.minutes, a.scale)
        results = [run_attack(name, scene) for name in a.only]
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, " \
              f"Python {platform.python_version()}"
    said = f"## {' '.join(['python', 'benchmarks/abuse.py', *sys.argv[1:]])}\n\n{machine}\n\n" \
           f"{table(['attack', 'what is asked', 'measured', 'verdict'], [row for row, _ in results])}\n"
    print(said)
    if a.out:
        with open(a.out, "a") as f: f.write(said + "\n")
    sys.exit(not all(ok for _, ok in results))


if __name__ == "__main__": main()
