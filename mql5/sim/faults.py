"""What networks and bridges do to a terminal. Each is a `Fault` for the network in front of a real bridge."""
import json, random
from proxy import Fault, json_of, kind_of

SECOND = 1000


class Split(Fault):
    "Answers come in pieces of seven bytes."
    def answer(self, network, line): return [(0, line[k:k+7]) for k in range(0, len(line), 7)]


class Together(Fault):
    "The bridge's ping, the answer and a pushed prediction come in one packet."
    def answer(self, network, line):
        pushed = json_of(line)
        pushed = {k: v for k, v in pushed.items() if k != "id"} if pushed["type"] == "prediction" else {"type": "ping"}
        return [(0, b'{"type":"ping"}\n' + line + json.dumps(pushed).encode() + b"\n")]


class Held(Fault):
    "Every prediction is held back until the next answer, and both come in one packet."
    def __init__(self):
        super().__init__()
        self.held = b""

    def answer(self, network, line):
        if kind_of(line) == "prediction":
            self.held += line
            return []
        line, self.held = self.held + line, b""
        return [(0, line)]


class Cut(Fault):
    "The bridge is killed in the middle of every third prediction."
    def __init__(self):
        super().__init__()
        self.predictions = 0

    def answer(self, network, line):
        self.predictions += kind_of(line) == "prediction"
        if kind_of(line) != "prediction" or self.predictions % 3: return [(0, line)]
        return [(0, line[:len(line)//2]), (0, None)]


class Mute(Fault):
    "A connection says nothing after its fifth answer, and stays open."
    def __init__(self):
        super().__init__()
        self.said = {}

    def answer(self, network, line):
        self.said[network.connections] = self.said.get(network.connections, 0) + 1
        return [(0, line)] if self.said[network.connections] <= 5 else []


class Junk(Fault):
    "Every fifth answer comes after bytes that are no protocol."
    def answer(self, network, line): return [(0, (b"\0\xff\xfe{]\"\\u12\n" if self.answers % 5 == 0 else b"") + line)]


class Endless(Fault):
    "Every fifth answer is a line without an end."
    def answer(self, network, line): return [(0, line)] if self.answers % 5 else [(0, b"x"*8_192)]*20


class Flood(Fault):
    "Before the fifth answer come a thousand pongs, and a line of thirty thousand values."
    def answer(self, network, line):
        if self.answers != 5: return [(0, line)]
        return [(0, b'{"type":"pong"}\n'*1_000), (0, b'{"type":"pong","data":[' + b"1,"*30_000 + b"1]}\n" + line)]


class Stale(Fault):
    "Before each answer comes the one before it once more."
    def __init__(self):
        super().__init__()
        self.last = b""

    def answer(self, network, line):
        said, self.last = self.last + line, line
        return [(0, said)]


class Duplicate(Fault):
    "Every answer comes twice."
    def answer(self, network, line): return [(0, line), (0, line)]


class Slow(Fault):
    "Every third prediction comes after the next bar has opened."
    def __init__(self):
        super().__init__()
        self.predictions = 0

    def answer(self, network, line):
        self.predictions += kind_of(line) == "prediction"
        return [(0 if kind_of(line) != "prediction" or self.predictions % 3 else 3700*SECOND, line)]


class Lost(Fault):
    "Every third prediction is lost; everything else is answered, pings too."
    def __init__(self):
        super().__init__()
        self.predictions = 0

    def answer(self, network, line):
        self.predictions += kind_of(line) == "prediction"
        return [] if kind_of(line) == "prediction" and self.predictions % 3 == 0 else [(0, line)]


class Swapped(Fault):
    "Another model answers from the fifth answer on."
    def answer(self, network, line):
        if self.answers < 5: return [(0, line)]
        said = json.loads(line)
        if said["type"] == "prediction": said["data"]["model"]["sha256"] = "beef"*3
        if said["type"] == "welcome": said["data"]["model"] = "beef"*16
        return [(0, json.dumps(said).encode() + b"\n")]


class Down(Fault):
    "The bridge hangs up after its sixth answer, and on the next three connections at once."
    def __init__(self):
        super().__init__()
        self.refused = 0

    def connecting(self, network):
        self.refused += network.connections > 1
        return not 1 <= self.refused <= 3

    def answer(self, network, line): return [(0, line)] + [(0, None)]*(self.answers == 6)


class Replaced(Fault):
    """Something is done to the bridge after an answer, by its number;
    if that returns a port, another process answers there."""
    def __init__(self, deeds):
        super().__init__()
        self.deeds = deeds

    def answer(self, network, line):
        port = self.deeds.get(self.answers, lambda: None)()
        if port is None: return [(0, line)]
        network.bridge_port = port
        return [(0, line), (0, None)]


class Warned(Fault):
    "Every prediction has a warning: the candles are unlike those of the training."
    def answer(self, network, line):
        said = json.loads(line)
        if said["type"] == "prediction": said["data"]["warnings"].append(dict(code="unlike_training", message="..."))
        return [(0, json.dumps(said).encode() + b"\n")]


class OtherPlan(Fault):
    "Every plan is another model's, or another bar's."
    def answer(self, network, line):
        said = json.loads(line)
        if said["type"] == "plan" and self.answers % 2: said["data"]["model"]["sha256"] = "beef"*3
        elif said["type"] == "plan": said["data"]["timestamp"] = "2016-01-01T00:00:00+00:00"
        return [(0, json.dumps(said).encode() + b"\n")]


class Older(Fault):
    "The bridge knows no clocks in a hello."
    def request(self, network, line):
        said = json_of(line)
        return json.dumps({k: v for k, v in said.items() if k not in ("broker_time", "gmt_time")}).encode()


class Misdated(Fault):
    "Every prediction is of another bar."
    def answer(self, network, line):
        said = json.loads(line)
        if said["type"] == "prediction": said["data"]["timestamp"] = "2016-01-01T00:00:00+00:00"
        return [(0, json.dumps(said).encode() + b"\n")]


def busy(line, retry):
    "What a bridge says that has too much to do, in place of an answer."
    said = dict(type="error", code="busy", message="64 requests wait", retry=retry, id=json_of(line).get("id"))
    return json.dumps(said).encode() + b"\n"


class Busy(Fault):
    "Every fifth answer is that the bridge is busy for 30 seconds, though it has done what was asked."
    def answer(self, network, line): return [(0, line if self.answers % 5 else busy(line, 30))]


NETWORK_FAULTS = {c.__name__.lower(): c for c in
                  (Fault, Split, Together, Held, Cut, Mute, Junk, Endless, Flood, Stale, Duplicate,
                   Slow, Lost, Swapped, Down, Warned, Misdated, Busy)}


class Any(Fault):
    "A fault by chance for a quarter of the answers; one connection in five is refused."
    KINDS = Split, Together, Cut, Mute, Junk, Stale, Duplicate, Slow, Busy
    def __init__(self, seed):
        super().__init__()
        self.random, self.last, self.muted = random.Random(seed), b"", 0

    def connecting(self, network): return self.random.random() < .8

    def answer(self, network, line):
        if network.connections == self.muted: return []
        kind, self.last, last = self.random.choice(self.KINDS) if self.random.random() < .25 else Fault, line, self.last
        if kind is Mute:
            self.muted = network.connections
            return []
        if kind is Cut: return [(0, line[:len(line)//2]), (0, None)]
        if kind is Junk: return [(0, b"\0junk\n" + line)]
        if kind is Stale: return [(0, last + line)]
        if kind is Slow: return [(self.random.choice([2, 30, 3700])*SECOND, line)]
        if kind is Busy: return [(0, busy(line, 5))]
        return kind().answer(network, line)
