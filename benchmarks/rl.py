"""Reinforcement learning where the answer is known, how fast it is, and what it finds on real candles:
`python benchmarks/rl.py`.

Sections by flag, `--planted`, `--speed`, `--repeat`, `--real FILE...` and `--sizing FILE...`; without one, the first
three. One core, medians, the peer in the same run; time is that of the processor, so that a busy machine does not
matter. `--out FILE` appends the tables to a file.

planted  made-up markets: an oracle (the next return leaked), a weak signal (correlation 0.05), noise without costs and
         with high ones; every agent, `--seeds` seeds of `--steps` steps; trained on 20,000 bars, chosen on another
         draw, measured on a third of 100,000 bars
speed    raw steps of 1,024 environments; training steps of PPO at four epochs, beside stable-baselines3's PPO on eight
         single environments in its `DummyVecEnv`
repeat   the same seed twice: are the weights the same?
real     `configs/rl.yaml` on candle files: one network, then the seeds of every agent; the test span is looked at once,
         and every run is a trial
sizing   size and stop of trades that begin at every sixth bar of candle files, in both directions: a policy of full
         information beside equal risk by forecast (HAR, without and with the hour) and by ATR
"""
import argparse, os, platform, sys, time
from dataclasses import replace
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"): os.environ.setdefault(name, "1")
import gymnasium, numpy as np, stable_baselines3, torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from tqdm import tqdm
from common import cpu_name, cpu_times, read_series, save, table
from natron.backtest import TrialLog
from natron.bandit import SIZES, STOPS, arm_verdict, learn_arms, planted_data, taken, trade_entries
from natron.calibrate import calibrate
from natron.config import Config, load_config, with_settings
from natron.core import make_rng
from natron.dataset import prepare
from natron.environment import TradingEnv, VectorTradingEnv, policy_positions, run_positions
from natron.finetune import finetune
from natron.metrics import block_resamples, interval
from natron.range_scores import RANGE_FORECASTERS, market
from natron.rl import AGENTS, train_policies, train_policy
from natron.splits import split_series
from natron.tasks import HORIZONS
from natron.rl_evaluate import (evaluate_policies, interquartile_mean, relative_score, run_figures, score_draws,
                                series_returns)

FREE = ({f"backtest.{k}": 0. for k in ("spread", "slippage", "swap_long", "swap_short")}
        | {"rl.turnover_penalty": 0., "rl.drawdown_penalty": 0.})
MARKETS = {  # kind, settings, what must come out
    "oracle, no costs": ("oracle", FREE, "90 % of the best possible"),
    "weak signal, no costs": ("signal", FREE, "every seed above 0"),
    "weak signal, usual costs": ("signal", {}, ""),
    "noise, no costs": ("noise", FREE, "an interval that holds 0"),
    "noise, ten times the costs": ("noise", {"backtest.spread": 10., "backtest.slippage": 2.,
                                             "backtest.swap_long": -5., "backtest.swap_short": -5.}, "flat"),
}


def config(agent, steps, sets=None):
    "The settings of an agent on a planted market."
    kind = dict(sac="continuous").get(agent, "discrete")
    return with_settings(Config(), **{"rl.agent": agent, "rl.actions": kind, "rl.steps": steps,
                                      "train.tracker": "none"} | (sets or {}))


def quiet(steps): return tqdm(total=steps, disable=True)


def scored(rollout, cfg):
    """Interquartile mean of the log return with its interval over seeds and blocks,
    and how many seeds alone lie above zero."""
    times, x = series_returns(rollout)
    e, rng, nothing = cfg.evaluate, make_rng(0, "benchmark"), np.zeros((1, 1))
    starts = block_resamples(times, e.block, e.resamples, rng)[1]
    def ends(x):
        point = float(relative_score(x.sum(-1), nothing))
        return point, *interval(point, relative_score(score_draws(x, starts, e.block, rng), nothing), starts.shape[1])
    return ends(x), sum(ends(x[k:k+1])[1] > 0 for k in range(len(x)))


def shares(rolled, kind):
    "What each seed took of the best possible: of the oracle's return, or of the signal by the side on which it stood."
    data = rolled.data
    if kind == "signal": return (rolled.position[:, 1:]*data.inputs[:-1, 0]).mean(1)/np.abs(data.inputs[:, 0]).mean()
    best = run_positions(data, np.sign(np.append(np.diff(np.log(data.bars["close"])), 0.)))
    return rolled.log_returns.sum(1)/best.log_returns.sum()


def planted_row(agent, market, seeds, steps):
    "One agent on one market: trained on one draw, chosen on a second, measured on a third."
    kind, sets, must = MARKETS[market]
    cfg = config(agent, steps, sets)
    train, validation, test = (planted_data(kind, k, cfg, n) for k, n in enumerate((20_000, 20_000, 100_000)))
    start = time.process_time()
    policies = [train_policy(train, validation, s, bar=quiet(steps)).policy for s in range(seeds)]
    took = (time.process_time()-start)/seeds
    rolled = run_positions(test, policy_positions(test, policies))
    (point, low, high), found = scored(rolled, cfg)
    share = f"{interquartile_mean(shares(rolled, kind)):.1%}" if kind != "noise" else ""
    return (agent, market, f"{point:+.3f} [{low:+.3f}, {high:+.3f}]", share, f"{found} of {seeds}",
            f"{run_figures(rolled).exposure.mean():.1%}", f"{took:.0f} s", must)


def planted(a):
    rows = []
    for agent in a.agents:
        for market in MARKETS:
            rows.append(planted_row(agent, market, a.seeds, a.steps))
            print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    head = ["agent", "market", "log return on another draw, interquartile mean", "of the best possible",
            "seeds whose interval is above 0", "mean position", "CPU a seed", "must be"]
    return f"{a.seeds} seeds of {a.steps:,} steps.\n\n" + table(head, rows)


def rate(f, steps, repeats):
    """Median, least and most steps a second of CPU of a call that makes so many,
    after one that does not count; and the median."""
    r = steps/np.array(cpu_times(f, repeats))
    return f"{np.median(r):,.0f} ({r.min():,.0f} to {r.max():,.0f})", float(np.median(r))


def raw(data, copies, calls=200):
    "A call that steps so many environments with random actions, and how many steps it makes."
    env = VectorTradingEnv(data, copies)
    env.reset(seed=0)
    actions = make_rng(0, "actions").integers(0, 3, (calls, copies))
    def steps():
        for act in actions: env.step(act)
    return steps, calls*copies


def speed(a):
    cfg = config("ppo", a.steps, {"rl.copies": 1024})
    data, rows = planted_data("signal", 0, cfg), []
    for copies in (8, 64, 1024):
        rows.append((f"environment, {copies:,} side by side", rate(*raw(data, copies), a.repeats)[0], ""))
    agent, n = AGENTS["ppo"](data, 0), cfg.rl.copies*cfg.rl.rollout*4
    text, ours = rate(lambda: agent.learn(n, 0), n, a.repeats)
    rows.append(("PPO, four epochs, 1,024 copies", text, ""))

    for name, batch in {"batches of 64, its default": 64, "batches of 1,024": 1024}.items():
        naive = PPO("MlpPolicy", DummyVecEnv([lambda: TradingEnv(data)]*8), n_epochs=4, n_steps=512, batch_size=batch,
                    device="cpu", seed=0, policy_kwargs=dict(net_arch=list(cfg.rl.hidden)))
        text, theirs = rate(lambda: naive.learn(4096), 4096, a.repeats)
        rows.append((f"stable-baselines3, eight in `DummyVecEnv`, four epochs, {name}", text, f"{ours/theirs:.1f}"))
    return table(["one core", f"steps a second of CPU, median of {a.repeats}", "PPO above is faster by"], rows)


def repeat(a):
    rows = []
    for agent in a.agents:
        cfg = config(agent, min(a.steps, 40_000), FREE)
        train, validation = (planted_data("signal", k, cfg) for k in range(2))
        one, two, other = (train_policy(train, validation, s, bar=quiet(1)).policy.state_dict() for s in (0, 0, 1))
        rows.append((agent, all(torch.equal(one[k], two[k]) for k in one),
                     any(not torch.equal(one[k], other[k]) for k in one)))
    return table(["agent", "the same seed gives the same weights", "another gives others"], rows)


def real(a):
    "One network on all files, then every agent."
    series, log, parts = read_series(a.real), TrialLog(a.trials), []
    cfg = load_config("rl", **{"data.stride": a.stride, "train.tracker": "none",
                               "rl.seeds": a.seeds, "rl.steps": a.steps})
    prep = prepare(series, cfg)
    start = time.process_time()
    model, _ = finetune(prep)
    calibration = calibrate(prep, model)
    parts.append(f"{', '.join(series)}: the network took {time.process_time()-start:.0f} s of CPU.")
    for agent in a.agents:
        sets = {"rl.agent": agent, "rl.actions": dict(sac="continuous").get(agent, "discrete")}
        own = replace(prep, config=with_settings(cfg, **sets))
        start = time.process_time()
        run = train_policies(own, model)
        parts.append(f"```text\n{evaluate_policies(run, own, model, calibration, log).text()}\n```\n\n"
                     f"Training took {time.process_time()-start:.0f} s of CPU.")
        print(parts[-1], file=sys.stderr, flush=True)
    return "\n\n".join(parts)


def entries(name, candles, split, forecaster):
    "The entries of one series in training, validation and test part, at every sixth bar; forecasts begin at row 2,000."
    m = market(candles, replace(split, validation=slice(2000, split.validation.stop)))
    term = RANGE_FORECASTERS[forecaster](m)
    return [trade_entries(name, candles, m.variance, term, np.arange(part.start, part.stop, 6))
            for part in (split.train, split.validation, split.test)]


def pooled(parts, field): return np.concatenate([getattr(e, field) for e in parts])


def equal_risk(parts, field, alone):
    "What the arm that is best on the training part brings in the test part, and the arms; one a series where `alone`."
    train, test = ([getattr(e, field) for e in parts[k]] for k in (0, 2))
    means = [u.mean(0) for u in train] if alone else [np.concatenate(train).mean(0)]*len(train)
    arms = [int(m.argmax()) for m in means]
    said = sorted({f"{SIZES[k % len(SIZES)]} and {STOPS[k//len(SIZES)]:g}" for k in arms})
    return np.concatenate([u[:, k] for u, k in zip(test, arms)]), ", ".join(said)


def sized(a, series, splits, forecaster):
    "The policy beside rules of equal risk, all series together, by one forecaster."
    start = time.process_time()
    parts = list(zip(*(entries(n, c, s, forecaster) for (n, c), s in zip(series.items(), splits))))
    x, u = ([pooled(p, k) for p in parts] for k in ("contexts", "by_forecast"))
    policies = [learn_arms((x[0], u[0]), (x[1], u[1]), k) for k in range(a.seeds)]
    seeds = [taken(u[2], p.arms(x[2])) for p in policies]
    rows = [(f"policy ({a.seeds} seeds)", "by context",
             f"{np.mean(seeds):.4f} ({min(map(np.mean, seeds)):.4f} to {max(map(np.mean, seeds)):.4f})", "")]
    times = parts[2][0].times.append([e.times for e in parts[2][1:]])
    block = round(240*times.nunique()/max(s.test.stop-s.test.start for s in splits))
    rules = [(by, field, alone) for by, field in (("forecast", "by_forecast"), ("ATR", "by_atr"))
             for alone in (False, True)]
    for by, field, alone in rules:
        rule, arms = equal_risk(parts, field, alone)
        v = arm_verdict(times, np.mean(seeds, 0), rule, f"equal risk by {by}", block)
        rows.append((f"equal risk by {by}, {'an arm a series' if alone else 'one arm'}", arms, f"{rule.mean():.4f}",
                     f"{v.difference:+.4f} [{v.low:+.4f}, {v.high:+.4f}]"))

    span = " to ".join(f"{t:%Y-%m-%d}" for t in (times.min(), times.max()))
    return (f"Forecast: {forecaster}; {', '.join(series)}; {len(times):,} entries, {span}, {v.blocks} blocks; "
            f"{time.process_time()-start:.0f} s of CPU.\n\n"
            + table(["", "size and stop", "mean utility", "policy less this"], rows))


def sizing(a):
    series = read_series(a.sizing)
    splits = split_series([c.index for c in series.values()], Config().data, HORIZONS[-1])
    return "\n\n".join(sized(a, series, splits, f) for f in ("har", "har_hour"))


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name in ("planted", "speed", "repeat"): p.add_argument(f"--{name}", action="store_true")
    p.add_argument("--real", nargs="+", type=Path, metavar="FILE", help="candle files, one series each")
    p.add_argument("--sizing", nargs="+", type=Path, metavar="FILE", help="candle files, one series each")
    p.add_argument("--trials", default="runs/trials.jsonl", help="trial log of --real")
    p.add_argument("--agents", nargs="+", choices=list(AGENTS), default=list(AGENTS))
    p.add_argument("--seeds", type=int, default=10)
    p.add_argument("--steps", type=int, default=200_000)
    p.add_argument("--stride", type=int, default=24, help="bars between training windows of --real")
    p.add_argument("--repeats", type=int, default=5)
    p.add_argument("--out", help="append the tables to this file")
    a = p.parse_args()
    torch.set_num_threads(1)

    asked = [f for f in (planted, speed, repeat, real, sizing) if getattr(a, f.__name__)] or [planted, speed, repeat]
    parts = [f"{cpu_name()}, one core of {os.cpu_count()}, "
             f"Python {platform.python_version()}, torch {torch.__version__}, gymnasium {gymnasium.__version__}, "
             f"stable-baselines3 {stable_baselines3.__version__}"]
    for f in asked:
        parts.append(f"### {f.__name__}\n\n{f(a)}")
        print(parts[-1], flush=True)
    save(a.out, parts)


if __name__ == "__main__": main()
