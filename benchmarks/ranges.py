"""How good ranges are by whose forecast of volatility: `python benchmarks/ranges.py --candles FILE... [--model M]`.

Every forecaster of `natron.range_scores`, a GARCH(1,1) with Student's t that is refitted every 500 bars on all bars
before, and LightGBM on Natron's columns with lags and three averaged seeds; with `--model` the network of that file
too, on the bars after everything that it was fitted on. Each gets a library of scenarios of its own from the validation
part, and all are scored on the same bars of the test part. Nothing is chosen by what is printed. `--join` gives each
series the other markets' columns, as `natron join` does; `--bars N` takes the last N bars of each file, `--stride N`
scores every Nth bar; `--out FILE` appends the tables to a file.
"""
import argparse, os, time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np, torch
from arch import arch_model
from natron.bundle import load_bundle
from natron.config import load_config
from natron.dataset import prepare
from natron.finetune import prepare_for
from natron.markets import join_markets
from natron.range_scores import (RANGE_FORECASTERS, market, network_forecasts, range_forecaster, score_ranges,
                                 tree_forecasts)
from natron.tasks import HORIZONS
from common import read_series, save, table

REFIT = 500                # bars: a month of hours
BUCKETS = [slice(a, b) for a, b in zip((0, *HORIZONS), HORIZONS)]


@range_forecaster("garch_t")
def garch(market):
    "GARCH(1,1) with Student's t, fitted again every 500 bars on all returns before."
    r, first = np.append(0., np.diff(np.log(market.candles.close.to_numpy(float)))), market.split.validation.start
    sd = r[1:first].std()
    r, out = r/sd, np.full((len(r), len(HORIZONS)), np.nan)
    for start in range(first, len(r), REFIT):
        model = arch_model(r[1:start+1], mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
        fit = model.fit(disp="off", show_warning=False)
        omega, alpha, beta = fit.params.to_numpy()[:3]
        g, v = min(alpha+beta, 1-1e-9), fit.conditional_volatility[-1]**2
        power = g**np.arange(HORIZONS[-1])
        for t in range(start, min(start+REFIT, len(r))):
            v = omega + alpha*r[t]**2 + beta*v                                    # of the next bar
            ahead = omega*(1-power)/(1-g) + power*v                               # (24,)
            out[t] = [np.log(ahead[b].mean()) for b in BUCKETS]
    return out + 2*np.log(sd)


def timed(name, f, *args):
    start = time.process_time()
    out = f(*args)
    print(f"{name}: {time.process_time()-start:.0f} processor seconds", flush=True)
    return out


def all_forecasts(prep, markets, model):
    "Log variances of every forecaster, the network's first."
    terms = {"network": timed("network", network_forecasts, prep, model)} if model else {}
    terms |= {n: timed(n, lambda f: [f(m) for m in markets], f) for n, f in RANGE_FORECASTERS.items()}
    return terms | {"lightgbm": timed("lightgbm", tree_forecasts, prep, markets)}


def means(scores, title, stem, digits, suffixes=HORIZONS):
    "A table of one score's means, a column a horizon, all or a part."
    names = [f"{stem}_{s}" for s in suffixes]
    rows = [(n, *(f"{x:.{digits}f}" for x in r)) for n, r in scores.table(names).iterrows()]
    return table([title, *suffixes], rows)


def spread(scores, title, by, metric="covered_90_12"):
    "Least and most of a score's mean over groups of bars."
    c = 100*scores.coverage(by, metric)
    return [f"{c[n].min():.1f} ({c[n].idxmin()}) to {c[n].max():.1f} ({c[n].idxmax()})" for n in c]


def coverage(scores):
    total = [f"{100*r.covered_90_12.mean():.1f}" for r in scores.rows.values()]
    columns = [total, *(spread(scores, by, by) for by in ("hour", "fifth", "month", "series"))]
    return table(["90 % range of the close over 12 bars holds, %", "all", "hours of the day, UTC", "fifths of ATR",
                  "months", "series"], list(zip(scores.rows, *columns)))


def pit(scores):
    "Tenths of the PIT of the close over 12 bars, 10 % each where the ranges are right."
    share = {n: 100*np.histogram(r.pit_12, np.linspace(0, 1, 11))[0]/len(r) for n, r in scores.rows.items()}
    return table(["PIT of the close over 12 bars, %", *range(1, 11)],
                 [(n, *(f"{x:.1f}" for x in s)) for n, s in share.items()])


def value_at_risk(scores):
    def cells(chance):
        return [(f"{100*r.breaches:.2f}", f"{r.kupiec:.0f}", f"{r.christoffersen:.0f}")
                for _, r in scores.value_at_risk(chance).iterrows()]
    series = scores.about.series.nunique()
    head = [h for c in (5, 1) for h in (f"VaR {100-c} %, one bar, long: breaches, %", f"Kupiec rejects, of {series}",
                                        f"Christoffersen rejects, of {series}")]
    return table(["", *head], [(n, *a, *b) for n, a, b in zip(scores.rows, cells(.05), cells(.01))])


def stops(scores):
    rows = []
    for n in scores.rows:
        by, everything = 100*scores.stops(n), 100*scores.rows[n][["announced_long", "announced_short",
                                                                  "stopped_long", "stopped_short"]].mean()
        d = by.announced-by.stopped
        total = (everything.iloc[:2].mean(), everything.iloc[2:].mean())
        rows.append((n, f"{total[0]:.1f}", f"{total[1]:.1f}", f"{total[0]-total[1]:+.1f}",
                     f"{d.abs().max():.1f} ({d.abs().idxmax()})"))
    return table(["stop 2 ATR, target 3 ATR, 24 bars, both sides", "announced stops, %", "stops hit, %", "difference",
                  "largest of an hour (which)"], rows)


def differences(scores, against):
    "Paired differences to one forecaster, with their intervals."
    metrics, rows = ("crps_12", "interval_90_12", "qlike_12", "touch_log_loss_2_24",
                     "end_log_loss_long", "end_log_loss_short"), []
    for n in scores.rows:
        verdicts = [scores.compare(n, against, m) for m in metrics]
        if n != against:
            rows.append((n, *(f"{v.difference:+.3g} [{v.low:+.3g}, {v.high:+.3g}] "
                              f"({v.difference/(v.score-v.difference):+.1%})" for v in verdicts)))
    return table([f"less {against}; {verdicts[0].blocks} blocks", *metrics], rows)


def report(scores):
    touches = ["1_6", "2_24", "3_24"]
    tables = [means(scores, "CRPS of the close, bp", "crps", 3),
              means(scores, "pinball loss, mean of 11 levels, bp", "pinball", 3)]
    tables += [means(scores, f"interval score of the {c} % range, bp", f"interval_{c}", 1) for c in (50, 80, 90, 95)]
    tables += [means(scores, f"{c} % range of the close holds", f"covered_{c}", 3) for c in (50, 80, 90, 95)]
    tables += [means(scores, "QLIKE of the variance, by the bucket's end", "qlike", 4),
               coverage(scores), pit(scores), value_at_risk(scores)]
    tables += [means(scores, f"touch of so many ATR within so many bars: {k}", f"touch_{s}", 4, touches)
               for k, s in (("Brier", "brier"), ("log-loss", "log_loss"))]
    tables += [means(scores, f"stop, target or neither: {k}", f"end_{s}", 4, ("long", "short"))
               for k, s in (("Brier", "brier"), ("log-loss", "log_loss"))]
    return [*tables, stops(scores), *(differences(scores, n) for n in ("atr_14", "lightgbm"))]


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--candles", nargs="+", type=Path, required=True)
    a.add_argument("--model", type=Path)
    a.add_argument("--join", action="store_true")
    a.add_argument("--bars", type=int, default=0)
    a.add_argument("--stride", type=int, default=1)
    a.add_argument("--out", type=Path)
    a = a.parse_args()
    torch.set_num_threads(1)

    candles = {n: c[-a.bars:] for n, c in read_series(a.candles).items()}
    if a.join: candles = join_markets(candles)
    bundle = load_bundle(a.model) if a.model else None
    prep = (prepare_for(bundle, candles) if bundle
            else prepare(candles, load_config(**{"labels.tasks": [f"term_{h}" for h in HORIZONS]})))
    markets = [market(s.candles, p) for s, p in zip(prep.series, prep.splits)]
    terms = all_forecasts(prep, markets, bundle and bundle.model())
    scores = timed("scores", score_ranges, dict(zip(candles, markets)), terms, prep.config.evaluate, a.stride)

    span = " to ".join(f"{t:%Y-%m-%d}" for t in (scores.about.time.min(), scores.about.time.max()))
    joined, thinned = ", joined" if a.join else "", f", one in {a.stride}" if a.stride > 1 else ""
    text = [f"{', '.join(candles)}; {sum(map(len, candles.values())):,} bars{joined}; "
            f"{len(scores.about):,} scored bars{thinned}, {span}", *report(scores)]
    print(*text, sep="\n\n")
    save(a.out, text)
