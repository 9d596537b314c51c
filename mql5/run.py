"""Bridge and Expert Advisor over a year of hourly bars: the trades, the backtest's beside them, and what faults do.

Shows that the EA does what it says, not that trading pays: most of the bars may be ones that the model was fitted on.
"""
import argparse, subprocess, sys, tempfile
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE/"sim")]
import pandas as pd
from natron.candles import read_candles, sample_candles
from natron.config import BacktestConfig
from account import EXACT, backtest_of, beside, broker_of, inputs_of, signals_on
from build import build
from faults import NETWORK_FAULTS, Any
from proxy import Network
from terminal import broken_promises, run_terminal, write_candles

FIRST = 600                     # bar from which the EA runs: the model's history lies before it
SEEDS = 3                       # days of random faults


@contextmanager
def bridge(model):
    "A bridge on a free port."
    command = [Path(sys.executable).parent/"natron", "bridge", "--port", "0", "--rate", "1000000/second"]
    if model: command += ["--model", model]
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = p.stdout.readline()
        if not line: sys.exit("the bridge does not start; try: " + " ".join(map(str, command)))
        yield int(line.rpartition(":")[2])
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


def year(program, file, candles, port, threshold, folder):
    "One run without faults, and its account beside the backtest's."
    cfg, bars, wire = BacktestConfig(threshold=threshold), len(candles) - FIRST, folder/"wire"
    broker = broker_of(cfg, candles) | EXACT
    run = run_terminal(program, file, inputs_of(cfg) | dict(Port=port), start=FIRST, bars=bars, phases="1,70",
                       wire=wire, **broker)
    print(f"{bars:,} bars from {candles.index[FIRST]:%Y-%m-%d %H:%M}: {run.prints[-1].partition('; ')[2]}")
    broken = broken_promises(run, bars) or "none"
    print(f"longest event: {run.summary['worst_ms']:.0f} ms; promises broken: {broken}\n")
    if not run.trades: return print("no trade; a lower --threshold gives some")
    sim = backtest_of(signals_on(wire), candles, cfg, candles.index[-1])
    both = beside(run, sim)
    print(both.to_string(max_rows=20, float_format="{:.2f}".format), "\n")
    accounts = {"EA": [len(run.trades), run.summary["balance"]], "backtest": [len(sim.trades), sim.equity.iloc[-1]]}
    print(pd.DataFrame(accounts, ["trades", "equity at the end"]).to_string(float_format="{:.2f}".format), "\n")


def fault_row(program, file, port, fault, bars, **inputs):
    "What one fault did."
    eager = inputs_of(BacktestConfig(threshold=.0001)) | inputs
    with Network(port, fault) as network:
        run = run_terminal(program, file, eager | dict(Port=network.port), control=network.control,
                           start=FIRST, bars=bars, phases="1,5,30,70,1800")
    broken = len(broken_promises(run, bars))
    return run.tally | dict(orders=len(run.orders), longest_ms=round(run.summary["worst_ms"]), broken=broken)


def faults(program, file, port, bars=24):
    "A day with each fault, and days with all of them by chance."
    rows = {}
    for name, c in NETWORK_FAULTS.items():
        if name == "warned": continue               # warnings are traded here: the bars may be fitted ones
        patience = 100 if name == "held" else 10
        rows[c.__doc__.partition(".")[0]] = fault_row(program, file, port, c(), bars, AnswerSeconds=patience)
    rows |= {f"{Any.__doc__.rstrip('.')}, seed {k}": fault_row(program, file, port, Any(k), bars) for k in range(SEEDS)}
    print(f"{bars} bars with each fault; of {bars}: answered, missed and told so, still waiting\n")
    print(pd.DataFrame(rows).T.to_string())


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", help="model file, or the name of a run; the newest run's where it is left out")
    options.add_argument("--candles", help="hourly candles of EURUSD; the embedded year where it is left out")
    options.add_argument("--threshold", type=float, default=.1, help="P(UP) less P(DOWN) from which a long is asked")
    args = options.parse_args()
    candles = read_candles(args.candles) if args.candles else sample_candles()
    with tempfile.TemporaryDirectory() as folder, bridge(args.model) as port:
        program, file = build(HERE/"Natron.mq5", folder), write_candles(candles, Path(folder)/"candles")
        year(program, file, candles, port, args.threshold, Path(folder))
        faults(program, file, port)


if __name__ == "__main__": main()
