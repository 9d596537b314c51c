"""The golden conversation of data/contract: a bridge that says its lines, and what the EA says to them."""
import json, sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from proxy import Fault, Network
from terminal import run_terminal

SESSION = HERE.parent.parent/"data/contract/session.jsonl"
INPUTS = dict(SignalsOnly=False, StopMode=1, RiskPercent=1, UseRlAction=True, OnlyModel="0415fb0aa823",
              MaxSpreadPoints=0, HeartbeatSeconds=100_000)
TERMINAL = dict(start=600, bars=3, phases="1", spread=0.0001)


def read_session(): return [json.loads(line) for line in SESSION.read_text().splitlines()]


class Player(Fault):
    "Plays the bridge's part of a session, whatever the terminal says; `heard` is what it has said."
    def __init__(self, session):
        super().__init__()
        self.rest, self.heard = list(session), []

    def request(self, network, line):
        self.heard.append(line.decode())
        while self.rest and self.rest.pop(0)["from"] != "terminal": pass
        for said in self.rest:
            if said["from"] == "terminal": break
            network.waiting.append((network.now, said["line"].encode() + b"\n"))


def play(program, candles, session):
    "What the EA says in this session, and its run."
    with Network(0, player := Player(session)) as network:
        run = run_terminal(program, candles, INPUTS | dict(Port=network.port), control=network.control, **TERMINAL)
    return player.heard, run


def main():
    "Write the session anew with what the EA says now."
    from tempfile import TemporaryDirectory
    from natron.candles import sample_candles
    from build import build
    from terminal import write_candles
    with TemporaryDirectory() as folder:
        candles, session = write_candles(sample_candles(), Path(folder)/"candles"), read_session()
        heard, _ = play(build(HERE.parent/"Natron.mq5", folder), candles, session)
    said = iter(heard)
    session = [s | dict(line=next(said)) if s["from"] == "terminal" else s for s in session]
    SESSION.write_text("".join(json.dumps(s) + "\n" for s in session))


if __name__ == "__main__": main()
