"""The EA's account beside Natron's backtest: the same signals, the same costs."""
import json
import pandas as pd
from natron.backtest import simulate_trades
from natron.broker import costs_of

EXACT = dict(digits=8, volume_step=1e-8, volume_max=1e6)     # a broker whose lots and prices are not rounded


def broker_of(cfg, candles, name="EURUSD"):
    "The simulator's settings for the costs of a `BacktestConfig`. A chart shows bids: the spread is paid at the ask."
    fee, swap_long, swap_short, commission = map(float, costs_of(name, candles, cfg))
    return dict(balance=cfg.equity, leverage=cfg.leverage, spread=2*fee, commission=commission,
                swap_long=swap_long, swap_short=swap_short)


def inputs_of(cfg):
    "The EA's inputs for the rules of a `BacktestConfig`."
    rules = dict(MinDirection=cfg.threshold, MinConfidence=cfg.confidence, StopAtr=cfg.stop, TargetAtr=cfg.target,
                 MaxBars=cfg.bars, RiskPercent=100*cfg.risk)
    no_others = dict(SignalsOnly=False, TradeOnWarnings=True, MinBuyProb=0, MinSellProb=0,
                     MaxSpreadPoints=0, MaxDailyLoss=0)
    return rules | no_others


def signals_on(wire):
    "P(UP) less P(DOWN) of every answer on a recorded wire, by the time of its bar."
    answers = [json.loads(line[2:]) for line in open(wire) if line.startswith("< ") and '"prediction"' in line]
    data = [a["data"] for a in answers if a["data"]]
    probs = [d["direction_probs"] for d in data]
    return pd.Series([p["UP"] - p["DOWN"] for p in probs], pd.to_datetime([d["timestamp"] for d in data], utc=True))


def in_time(run, signals, candles, seconds=60):
    "Those of the signals whose answer the EA had so soon after its bar that it may trade it; 0 for the others."
    told = {p.split()[1]: t for p, t in zip(run.prints, run.times) if " buy " in p}
    told = pd.Series(told.values(), pd.to_datetime(list(told), utc=True))
    opens = candles.index[candles.index.searchsorted(told.index, "right")].as_unit("s").asi8   # of the next bar
    once = signals[~signals.index.duplicated()]
    return once.where(once.index.isin(told.index[told.to_numpy() - opens <= seconds]), 0.)


def backtest_of(signals, candles, cfg, last, name="EURUSD"):
    "Natron's backtest of these signals, up to the bar `last`."
    signals = signals.copy()
    signals[last] = 0.
    return simulate_trades({name: candles}, {name: signals}, cfg)


def trades_of(run):
    "The EA's trades as a table like the backtest's."
    t = pd.DataFrame(run.trades)
    for k in ("entry", "exit"): t[k] = pd.to_datetime(t[k], unit="s", utc=True)
    return t.assign(side=t.side.map({1: "long", -1: "short"}))


def beside(run, sim):
    "Both accounts, trade by trade, in the order of entry."
    mine, theirs = trades_of(run), sim.trades
    both = mine.merge(theirs, "outer", ["entry", "side"], suffixes=("", "_backtest"), sort=True)
    return both[["side", "entry", "exit", "exit_backtest", "reason", "reason_backtest", "pnl", "pnl_backtest"]]
