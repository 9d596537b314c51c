"""Reinforcement learning where the answer is known, how fast it is, and what it finds on real candles: `python benchmarks/rl.py --planted --speed --repeat --real FILE...`.

One core, medians, the peer in the same run. Without a flag: planted, speed and repeat. `--out FILE` appends the tables to a file.

planted  made-up markets: an oracle (the next return leaked), a weak signal, noise without costs and with high ones; every agent, `--seeds` seeds each
speed    raw steps of 1,024 environments; training steps of PPO at four epochs, beside stable-baselines3 on eight of the same environments in `DummyVecEnv`
repeat   the same seed twice: the same weights?
real     the recipe of `configs/rl.yaml` on candle files: one network, then every agent; the test span is looked at once
"""
import argparse, os, platform, sys, time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"): os.environ.setdefault(name, "1")
import gymnasium, numpy as np, stable_baselines3, torch
from common import table
from natron.bandit import planted_data
from natron.candles import read_candles
from natron.config import Config, load_config, with_settings
from natron.core import make_rng
from natron.environment import TradingEnv, VectorTradingEnv, run_policies, run_positions
from natron.metrics import block_resamples, interval
from natron.rl import AGENTS
from natron.rl_evaluate import evaluate_policies, interquartile_mean, relative_score, run_figures, score_draws, series_returns

FREE = {f"backtest.{k}": 0. for k in ("spread", "slippage", "swap_long", "swap_short")} | {"rl.turnover_penalty": 0., "rl.drawdown_penalty": 0.}
KINDS = dict(bandit="discrete", ppo="discrete", sac="continuous")
MARKETS = {  # kind, settings, what must come out
    "oracle": ("oracle", FREE, "90 % of the best possible return or more"),
    "weak signal, usual costs": ("signal", {}, "found by every seed"),
    "noise, no costs": ("noise", FREE, "an interval that holds 0"),
    "noise, ten times the costs": ("noise", {"backtest.spread": 10., "backtest.slippage": 2.}, "stays flat"),
}


def config(agent, sets, steps): return with_settings(Config(), **{"rl.agent": agent, "rl.actions": KINDS[agent], "rl.steps": steps} | sets)


def scored(rollout, cfg):
    "Interquartile mean of the log return with its interval over seeds and blocks, and which seeds alone lie above zero."
    times, x = series_returns(rollout); rng = make_rng(0, "benchmark"); e = cfg.evaluate
    starts = block_resamples(times, e.block, e.resamples, rng)[1]; blocks = starts.shape[1]
    def ends(x): point = float(relative_score(x.sum(-1), np.zeros((1, 1)))); return point, *interval(point, relative_score(score_draws(x, starts, e.block, rng), np.zeros((1, 1))), blocks)
    return ends(x), sum(ends(x[k:k+1])[1] > 0 for k in range(len(x)))


def planted(agents, seeds, steps):
    rows = []
    for agent in agents:
        for name, (kind, sets, must) in MARKETS.items():
            cfg = config(agent, sets, steps); train, validation, test = (planted_data(kind, k, cfg) for k in range(3)); start = time.process_time()
            policies = [AGENTS[agent](train, validation, cfg, seed).policy for seed in range(seeds)]; took = (time.process_time()-start)/seeds
            rolled = run_policies(test, policies); (point, low, high), found = scored(rolled, cfg)
            moves = np.append(np.diff(np.log(test.bars["close"])), 0.); best = run_positions(test, np.sign(moves)).log_returns.sum()
            share = f"{interquartile_mean(rolled.log_returns.sum(-1))/best:.1%}" if kind == "oracle" else ""
            rows.append((agent, name, f"{point:+.3f} [{low:+.3f}, {high:+.3f}]", share, f"{found} of {seeds}", f"{run_figures(rolled).exposure.mean():.1%}", f"{took:.0f} s", must))
            print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    return table(["agent", "market", "log return on another draw, interquartile mean", "of the best possible", "seeds whose interval is above 0", "exposure", "CPU a seed", "must"], rows)


def rate(f, steps, repeats=5):
    "Median, least and most steps a second of a call that makes so many, after one that does not count."
    f(); took = []
    for _ in range(repeats): start = time.perf_counter(); f(); took.append(time.perf_counter()-start)
    r = steps/np.array(took); return f"{np.median(r):,.0f} ({r.min():,.0f} to {r.max():,.0f})", float(np.median(r))
