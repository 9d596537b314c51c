"""The golden conversations of data/contract: a bridge that says its lines, and what the EA says to them."""
import json, sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from proxy import Fault, Network
from terminal import run_terminal

FOLDER = HERE.parent.parent/"data/contract"
INPUTS = dict(SignalsOnly=False, StopMode=1, RiskPercent=1, UseRlAction=True, OnlyModel="0415fb0aa823",
              MaxSpreadPoints=0, HeartbeatSeconds=100_000)
TERMINAL = dict(start=600, phases="1", spread=0.0001, today=0)      # the clocks are those of the candles
# What is special of each: the EA's inputs, and the terminal's settings
SESSIONS = {"session": (INPUTS, dict(bars=3)), "computer_clock": ({}, dict(bars=1, pc_error=400)),
            "broker_clock": (dict(WinterOffset=10_800), dict(bars=1))}


def read_session(name): return [json.loads(line) for line in (FOLDER/f"{name}.jsonl").read_text().splitlines()]


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


def play(program, candles, name):
    "What the EA says in this session, and its run."
    inputs, settings = SESSIONS[name]
    with Network(0, player := Player(read_session(name))) as network:
        run = run_terminal(program, candles, inputs | dict(Port=network.port), control=network.control,
                           **TERMINAL, **settings)
    return player.heard, run


def main():
    "Write the sessions anew with what the EA says now."
    from tempfile import TemporaryDirectory
    from natron.candles import sample_candles
    from build import build
    from terminal import write_candles
    with TemporaryDirectory() as folder:
        candles, program = (write_candles(sample_candles(), Path(folder)/"candles"),
                            build(HERE.parent/"Natron.mq5", folder))
        for name in SESSIONS:
            said = iter(play(program, candles, name)[0])
            session = [s | dict(line=next(said)) if s["from"] == "terminal" else s for s in read_session(name)]
            (FOLDER/f"{name}.jsonl").write_text("".join(json.dumps(s) + "\n" for s in session))


if __name__ == "__main__": main()
