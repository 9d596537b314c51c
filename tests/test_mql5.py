"""The Expert Advisor in the simulated terminal, against a real bridge,
through a network that breaks in every way we know.

Time is the simulator's, and what an event would wait in a socket call is added to it. The machine's clock is read
in three places, as the real bridge goes by it: the wait for a hot swap, candles of today, and the clocks of a hello.
"""
import contextlib, json, os, re, runpy, shutil, socket, sys, time, types
from dataclasses import replace
from pathlib import Path
import numpy as np, pandas as pd, pytest
from natron.candles import sample_candles
from natron.config import BacktestConfig
from served import PATIENCE, ForkedServer

root = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root/"mql5"), str(root/"mql5/sim")]
from account import EXACT, backtest_of, beside, broker_of, in_time, inputs_of, signals_on
from build import TLS, build
from contract import SESSIONS, play, read_session
from faults import NETWORK_FAULTS, Any, Fault, Flood, Older, OtherPlan, Replaced, Slow, json_of
from preprocess import Refused, check, translate
from proxy import Network
from terminal import Run, broken_promises, run_terminal, write_candles

pytestmark = [pytest.mark.skipif(not shutil.which("g++"), reason="needs g++"), pytest.mark.xdist_group("mql5")]
source = root/"mql5/Natron.mq5"
candles = sample_candles()
# An answer for nearly every bar is an order
EAGER = dict(SignalsOnly=False, MinBuyProb=0, MinSellProb=0, MinDirection=.0001, MaxSpreadPoints=0)
START, SHORT = 5600, "1,5,30,70,1800"


@pytest.fixture(scope="module")
def folder(tmp_path_factory): return tmp_path_factory.mktemp("mql5")


@pytest.fixture(scope="module")
def program(folder): return build(source, folder)


@pytest.fixture(scope="module")
def file(folder): return write_candles(candles, folder/"candles")


def port_of(server): return int(server.urls[-1].rpartition(":")[2])


def bridge_of(model, *args, port=0, **env):
    return ForkedServer("bridge", "--model", model, "--port", port, "--rate", "1000000/second", *args, **env)


def save_restless(toy, path, seed=0, **changes):
    "The toy with another last layer for the direction, by chance: it changes its mind often."
    import torch
    from natron.bundle import load_bundle, save_bundle
    from natron.engine import reference_outputs
    bundle = load_bundle(toy)
    state, layer = dict(bundle.model_state), "heads.nets.direction.3.weight"
    state[layer] = .1*torch.randn(state[layer].shape, generator=torch.Generator().manual_seed(seed))
    bundle = replace(bundle, model_state=state, sha256="", **changes)
    x, *ids = (bundle.reference_outputs[k] for k in ("x", "mask", "instrument", "timeframe"))
    save_bundle(replace(bundle, reference_outputs=reference_outputs(bundle.model(), x.float(), *ids)), path)
    return path


@pytest.fixture(scope="module")
def model(toy_model, folder): return save_restless(toy_model, folder/"model.pt")


@pytest.fixture(scope="module")
def other_model(toy_model, folder): return save_restless(toy_model, folder/"other.pt", seed=1)


@pytest.fixture(scope="module")
def server(model):
    "REST and bridge."
    with ForkedServer("serve", "--no-app", "--model", model, "--port", 0, "--bridge-port", 0,
                      "--rate", "1000000/second", servers=2) as s:
        yield s


@pytest.fixture(scope="module")
def bridge(server): return port_of(server)


def utc_of(request):
    return pd.to_datetime([c["time"] for c in request.get("candles", [request.get("candle")])], utc=True)


def appended(network): return [m for m in map(json_of, network.requests) if m.get("type") == "append"]


# The preprocessor

@pytest.mark.parametrize("line,reason", [
    ("auto x=1;", "`auto` is no MQL5"), ("std::string s;", "`std::` is no MQL5"),
    ("int y=[](int a) { return(a); }(1);", "a lambda"), ("int n=ArraySise(bytes);", "did you mean ArraySize"),
    ("long long n=1;", "64 bits"), ("for(uchar b : bytes) n++;", "a loop over a range"),
    ("g_link->Close();", "reached by `.`"), ("int &r=n;", "a local reference"),
    ("Port=1;", "an input is a constant"), ("int *p=new int;", "pointers"),
    ("strlen(0);", "strlen is no name of the supported part"), ('string s="\\b";', "this escape"),
    ("size_t n=0;", "this word is no MQL5"), ("int &&r=1;", "a reference to an rvalue")])
def test_what_is_no_mql5_is_refused_with_its_line(line, reason):
    text = source.read_text().replace("void OnTick(void)\n  {",
                                      "void OnTick(void)\n  {\n   uchar bytes[];\n   int n=0;\n   " + line)
    where = text.splitlines().index("   " + line) + 1
    with pytest.raises(Refused, match=rf"^Natron.mq5:{where}: .*{re.escape(reason)}"): check("Natron.mq5", text)


@pytest.mark.parametrize("text,reason", [
    ("#include <Math\\Stat\\Math.mqh>\n", "only Trade"), ("#import \"ws2_32.dll\"\n", "this directive"),
    ("void F(MqlRates r)\n  {\n  }\n", "structures and classes are passed by reference"),
    ("void F(MqlRates &&r)\n  {\n  }\n", "a reference to an rvalue"),
    ("void F(uchar x[])\n  {\n  }\n", "arrays are passed by reference")])
def test_what_mql5_does_not_compile_is_refused(text, reason):
    with pytest.raises(Refused, match=rf"^a.mq5:1: {reason}"): check("a.mq5", text)


def test_every_line_stays_where_it_is():
    lines = translate(source).split("\n")
    first = lines.index('#line 1 "Natron.mq5"') + 1
    prototypes = next(k for k, l in enumerate(lines) if l.startswith('#line') and k > first)
    number = int(lines[prototypes].split()[1])
    assert source.read_text().splitlines()[number-1] == lines[prototypes+1]


# Planted bugs

BUGS = {      # what stands in the file, what stands there in its place, and by what it is found
    "nul": ("WHOLE_ARRAY,CP_UTF8)-1;", "WHOLE_ARRAY,CP_UTF8)-(Bug==0 ? 0 : 1);", "NUL bytes on the wire"),
    "blocking": ("SocketRead(m_socket,piece,ready,1)",
                 "SocketRead(m_socket,piece,Bug==1 ? 4096 : ready,Bug==1 ? 30000 : 1)", "an event took 300"),
    "overrun": ("while(m_scanned<n && m_in", "while(m_scanned<n+(Bug==2 ? 1 : 0) && m_in", "array out of range"),
    "no limit": ("#define MAX_VALUES     4096", "#define MAX_VALUES     (Bug==3 ? 100000 : 4096)", "an event took ")}


def planted(folder, bugs):
    text = source.read_text()
    for old, new in bugs:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = folder/"Planted.mq5"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def buggy(folder):
    "One program with all of them; an input chooses which it has."
    chosen = ('input group "Bridge"', 'input int Bug=-1;\ninput group "Bridge"')
    return build(planted(folder, [chosen, *(b[:2] for b in BUGS.values())]), folder)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug, buggy, file, bridge):
    with Network(bridge, Flood()) as network:
        run = run_terminal(buggy, file, dict(Port=network.port, Bug=list(BUGS).index(bug)), control=network.control,
                           start=START, bars=4)
    promises, found = broken_promises(run, 4), BUGS[bug][2]
    assert any(found in p for p in promises), promises
    if "range" in found: assert re.search(r"CLink::NextLine.*Planted\.mq5:\d+", run.errors), run.errors


def test_without_a_bug_nothing_is_found(buggy, file, bridge):
    with Network(bridge, Flood()) as network:
        run = run_terminal(buggy, file, dict(Port=network.port), control=network.control, start=START, bars=4)
    assert broken_promises(run, 4) == []


def test_a_run_without_a_summary_breaks_a_promise(): assert broken_promises(Run(), 4) == ["the run left no summary"]


def test_a_misspelt_name_is_found(folder):
    bad = planted(folder, [("uint ready=SocketIsReadable(", "uint ready=SocketIsReadible(")])
    with pytest.raises(Refused, match=r"Planted.mq5:\d+: SocketIsReadible is no name of the supported part; "
                                      r"did you mean SocketIsReadable\?"):
        build(bad, folder)


# Without faults

def test_closed_candles_are_sent_in_utc(program, file, bridge):
    with Network(bridge) as network:
        run = run_terminal(program, file, dict(Port=network.port), control=network.control, start=START, bars=6)
    assert broken_promises(run, 6) == [] and run.tally == dict(answered=6, missed=0, waiting=0, strays=0, drops=0)
    hello, history, *rest = map(json_of, network.requests)
    assert hello.pop("broker_time") - hello.pop("gmt_time") == 7200
    assert hello == dict(type="hello", id=1, symbol="EURUSD", timeframe="H1", gmt_offset=7200)
    assert list(utc_of(history)) == list(candles.index[START-513:START-1])
    sent = appended(network)
    assert [utc_of(m)[0] for m in sent] == list(candles.index[START-1:START+5])
    for m, (_, c) in zip(sent, candles[START-1:].iterrows()):
        assert [m["candle"][k] for k in ("open", "high", "low", "close")] == [c.open, c.high, c.low, c.close]
    assert run.orders == [] and "signals only" in run.panel
    assert [m["id"] for m in map(json_of, network.requests) if "id" in m] == list(range(1, 9))


def test_partial_sends_are_continued(program, file, bridge):
    run = run_terminal(program, file, dict(Port=bridge), start=START, bars=2, send_max=1000, phases="30")
    assert broken_promises(run, 2) == [] and run.tally["answered"] == 2


def test_in_the_strategy_tester_it_stays_idle(program, file):
    run = run_terminal(program, file, start=START, bars=3, tester=1)
    assert run.said("sockets do not run in the strategy tester") and run.summary["connections"] == 0 and not run.errors


@pytest.mark.parametrize("inputs,says", [
    (dict(Port=0), "Port"), (dict(WinterOffset=2), "WinterOffset: expected seconds"),
    (dict(StopAtr=0), "RiskPercent"), (dict(AnswerSeconds=0), "AnswerSeconds")])
def test_wrong_inputs_are_refused(inputs, says, program, file):
    run = run_terminal(program, file, inputs, start=START, bars=1)
    assert run.summary["init"] == 32767 and run.said(says)


# Faults of the network and of the bridge

@pytest.mark.parametrize("name", NETWORK_FAULTS)
def test_a_fault_breaks_no_promise(name, program, file, bridge):
    inputs = EAGER | (dict(AnswerSeconds=100) if name == "held" else {})
    with Network(bridge, NETWORK_FAULTS[name]()) as network:
        run = run_terminal(program, file, inputs | dict(Port=network.port), control=network.control,
                           start=START, bars=12, phases=SHORT)
    assert broken_promises(run, 12) == [] and network.error is None
    tally = run.tally
    assert tally["answered"] == 12 and tally["missed"] == 0
    assert (tally["drops"] > 0) == (name in ("cut", "mute", "junk", "endless", "slow", "lost", "down", "busy", "flood"))
    assert (tally["strays"] > 0) == (name in ("together", "stale", "duplicate"))
    assert (len(run.orders) > 0) == (name not in ("warned", "misdated"))
    assert run.said("the model was replaced") == (name == "swapped")


def test_what_comes_after_the_next_bar_is_not_traded(program, file, bridge):
    with Network(bridge, Slow()) as network:
        run = run_terminal(program, file, EAGER | dict(Port=network.port, AnswerSeconds=8000), control=network.control,
                           start=START, bars=12)
    assert broken_promises(run, 12) == [] and run.said("the answer came too late")
    assert run.tally["answered"] + run.tally["waiting"] == 12 and run.tally["drops"] == 0


def test_the_first_answer_of_another_model_is_not_traded(program, file, bridge):
    swapped = NETWORK_FAULTS["swapped"]()
    swapped.answers = 2                              # after hello and history, the first prediction is the other's
    with Network(bridge, swapped) as network:
        run = run_terminal(program, file, EAGER | dict(Port=network.port), control=network.control, start=START, bars=4)
    assert broken_promises(run, 4) == [] and run.said("is asked, no order: the model was replaced")
    assert run.orders[0]["bar"] == candles.index[START+1].timestamp()
    hellos = [m for m in map(json_of, network.requests) if m.get("type") == "hello"]
    assert len(hellos) == 2
    run = run_terminal(program, file, EAGER | dict(Port=bridge, OnlyModel="beef"), start=START, bars=4)
    assert run.orders == [] and run.said("this is not the model of OnlyModel")


def greeted_by(port):
    "The welcome's `data` at a bridge."
    with socket.create_connection(("127.0.0.1", port)) as s, s.makefile("rb") as lines:
        s.sendall(b'{"type":"hello"}\n')
        return json.loads(lines.readline())["data"]


def test_a_replaced_model_and_a_restarted_bridge(program, file, model, other_model, folder):
    """The bridge's file becomes another model's, which it takes over;
    then it is killed, and a second process takes its port, with the first model."""
    path = Path(shutil.copy(model, folder/"served.pt"))
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(bridge_of(path))
        old, until = greeted_by(port_of(first))["model"], time.monotonic() + PATIENCE
        def swap():
            os.replace(shutil.copy(other_model, folder/"new.pt"), path)
            while greeted_by(port_of(first))["model"] == old and time.monotonic() < until: time.sleep(.05)
        def restart():
            first.kill()
            return port_of(stack.enter_context(bridge_of(model, port=port_of(first))))
        network = stack.enter_context(Network(port_of(first), Replaced({4: swap, 10: restart})))
        run = run_terminal(program, file, EAGER | dict(Port=network.port), control=network.control,
                           start=START, bars=12)
    assert broken_promises(run, 12) == [] and run.tally == dict(answered=12, missed=0, waiting=0, strays=0, drops=1)
    kinds = [m.get("type") for m in map(json_of, network.requests)]
    assert (kinds.count("hello"), kinds.count("history")) == (3, 3)
    replaced = [p.split("replaced: ")[1].split(";")[0] for p in run.prints if "the model was replaced: " in p]
    there, back = (x.split(" by ") for x in replaced)
    assert there == back[::-1] and old.startswith(there[0])
    idle = [t for t, p in zip(run.times, run.prints) if p.endswith("is asked, no order: the model was replaced")]
    assert len(idle) == 2 and not {t//3600*3600 for t in idle} & {o["bar"] for o in run.orders}
    assert max(o["bar"] for o in run.orders) > idle[1] > idle[0] > min(o["bar"] for o in run.orders)


def test_damaged_answers_break_no_promise(program, file, bridge):
    class Damaged(Fault):
        "One byte of every second prediction is another."
        random = np.random.default_rng(1)
        def answer(self, network, line):
            if self.answers % 2 or b'"prediction"' not in line: return [(0, line)]
            line = bytearray(line)
            line[self.random.integers(len(line)-1)] = self.random.integers(1, 256)
            return [(0, bytes(line))]
    with Network(bridge, Damaged()) as network:
        run = run_terminal(program, file, EAGER | dict(Port=network.port), control=network.control,
                           start=START, bars=24, phases=SHORT)
    assert broken_promises(run, 24) == []


@pytest.mark.parametrize("seed", range(5))
def test_24_hours_of_random_faults(seed, program, file, bridge, tmp_path):
    "No promise is broken, and the account is the backtest's on the answers that came in time."
    cfg, bars = BacktestConfig(threshold=.001), 24
    with Network(bridge, Any(seed)) as network:
        run = run_terminal(program, file, inputs_of(cfg) | dict(Port=network.port), control=network.control,
                           start=START, bars=bars, phases=SHORT, wire=tmp_path/"wire",
                           **broker_of(cfg, candles), **EXACT)
    assert broken_promises(run, bars) == [] and network.error is None
    assert run.tally["drops"] > 0 and run.tally["answered"] > 12
    signals = in_time(run, signals_on(tmp_path/"wire"), candles)
    assert 0 < (signals != 0).sum() < bars
    sim = backtest_of(signals, candles, cfg, candles.index[START+bars-1])
    both = beside(run, sim)
    assert len(both) > 2 and (both.exit == both.exit_backtest).all() and (both.reason == both.reason_backtest).all()
    assert (both.pnl - both.pnl_backtest).abs().max() < 2e-3*cfg.risk*cfg.equity
    assert abs(run.summary["balance"]/sim.equity.iloc[-1] - 1) < 1e-4


# Connecting

def test_no_bridge_at_all(program, file):
    run = run_terminal(program, file, EAGER | dict(Port=1), start=START, bars=3, phases=SHORT)
    assert run.said("no connection to 127.0.0.1:1 (error 5272)") and run.orders == [] and not run.errors
    assert run.tally["answered"] == 0 and 6 <= run.tally["drops"] <= 30, "it waits longer after each failure"


def test_an_address_that_is_not_allowed(program, file, bridge):
    run = run_terminal(program, file, dict(Port=bridge), start=START, bars=1, allow="192.0.2.1")
    assert run.said("MetaTrader does not allow the address 127.0.0.1") and run.summary["connections"] == 0


TOKEN = "sésame \"öffne\" dich"


@pytest.fixture(scope="module")
def secured(toy_model, folder):
    """A bridge with a token, with TLS where the simulator has it, and a model without scenarios:
    the EA's inputs, and the terminal's settings."""
    plain = save_restless(toy_model, folder/"plain.pt", scenarios={})
    if not TLS:
        with bridge_of(plain, NATRON_TOKEN=TOKEN) as s: yield dict(Port=port_of(s), Token=TOKEN), {}
        return
    import trustme
    authority = trustme.CA()
    own, files = authority.issue_cert("127.0.0.1"), [folder/name for name in ("cert.pem", "key.pem", "ca.pem")]
    for pem, path in zip((own.cert_chain_pems[0], own.private_key_pem, authority.cert_pem), files):
        pem.write_to_path(path)
    with bridge_of(plain, "--tls-cert", files[0], "--tls-key", files[1], NATRON_TOKEN=TOKEN) as s:
        yield dict(Port=port_of(s), Token=TOKEN, UseTls=True), dict(tls_ca=files[2])


def test_token_and_tls(program, file, secured):
    if not TLS: pytest.skip("needs OpenSSL's headers (apt install libssl-dev)")
    inputs, settings = secured
    def run(settings=settings, **more):
        return run_terminal(program, file, EAGER | inputs | more, start=START, bars=4, phases="1", **settings)
    right = run()
    assert broken_promises(right, 4) == [] and right.tally["answered"] == 4
    wrong = run(Token="secret")
    assert wrong.said("unauthorized") and wrong.summary["connections"] <= 4 and wrong.orders == [] and not wrong.errors
    stranger = run(settings={})
    assert stranger.said("(error 5274)") and stranger.tally["answered"] == 0


# Clocks

@pytest.mark.parametrize("clock,rule,day", [
    ("us", 1, "2017-03-12"), ("us", 1, "2017-11-05"), ("eu", 2, "2017-03-26"),
    ("eu", 2, "2017-10-29"), ("fixed", 0, "2017-03-12")])
def test_the_clock_changes(clock, rule, day, program, file, bridge):
    start = candles.index.searchsorted(pd.Timestamp(day, tz="UTC")) - 2
    with Network(bridge) as network:
        run = run_terminal(program, file, dict(Port=network.port, BrokerClock=rule), control=network.control,
                           start=start, bars=5, clock=clock, phases="1")
    assert broken_promises(run, 5) == [] and run.tally["answered"] == 5
    requests = [json_of(r) for r in network.requests]
    for m in requests:
        if m["type"] in ("history", "append"):
            assert utc_of(m).isin(candles.index).all() and utc_of(m).is_monotonic_increasing
    offsets = [m["gmt_offset"] for m in requests if m["type"] == "hello"]
    assert sorted(offsets) == ([7200] if clock == "fixed" else [7200, 10800])
    assert [utc_of(m)[0] for m in appended(network)] == list(candles.index[start-1:start+4])


def test_an_offset_that_the_clocks_deny_stops_the_orders(program, file, bridge):
    "The EA holds its orders though the bridge, an older one, knows no clocks."
    def run(inputs=None, **settings):
        with Network(bridge, Older()) as network:
            return run_terminal(program, file, EAGER | (inputs or {}) | dict(Port=network.port),
                                control=network.control, start=START, bars=4, **settings)
    offset, clock = run(dict(WinterOffset=10800)), run(pc_error=400)
    assert offset.said("check WinterOffset") and clock.said("the broker's clock is 6800 s ahead")
    for r in (offset, clock): assert r.orders == [] and r.tally["answered"] == 4


@pytest.mark.parametrize("inputs,settings,says", [
    (dict(WinterOffset=10800), {}, "gmt_offset says 10800 s; mend it (WinterOffset"),
    ({}, dict(pc_error=400), "s ahead of the server's; set both"),
    ({}, dict(pc_error=-400), "s behind the server's; set both")])
def test_the_bridge_refuses_clocks_that_do_not_fit(inputs, settings, says, program, file, bridge):
    run = run_terminal(program, file, EAGER | inputs | dict(Port=bridge), start=START, bars=4, phases="1", **settings)
    assert run.said("the bridge says invalid: ") and run.said(says) and run.orders == [] and not run.errors
    assert run.tally["answered"] == 0 and run.summary["connections"] <= 4, "it asks once a minute at most"


def test_the_bridge_refuses_bars_of_the_future(program, folder, bridge):
    moved = candles.iloc[-700:].set_index(pd.date_range(end=pd.Timestamp.now("UTC").ceil("h"), periods=700, freq="h"))
    file = write_candles(moved, folder/"now")
    with Network(bridge, Older()) as network:
        run = run_terminal(program, file, EAGER | dict(Port=network.port, WinterOffset=0, BrokerClock=0),
                           control=network.control, start=698, bars=2, clock="fixed", offset=7200)
    assert run.said("send closed candles only, or mend gmt_offset") and run.tally["answered"] == 0 and run.orders == []


# The account

@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("kind", ["hedging", "netting"])
def test_the_account_is_the_backtests(side, kind, program, file, bridge, tmp_path):
    """Trade by trade, with spread, commission and swap.
    One side: where positions are turned over, MetaTrader's equity has paid for closing."""
    cfg, bars = BacktestConfig(threshold=.02, commission=2e-5, bars=30), 120
    one_side = dict(LongRegimes="none") if side < 0 else dict(ShortRegimes="none")
    run = run_terminal(program, file, inputs_of(cfg) | one_side | dict(Port=bridge), start=START, bars=bars, phases="1",
                       account=kind, wire=tmp_path/"wire", **broker_of(cfg, candles), **EXACT)
    assert broken_promises(run, bars) == []
    signals = signals_on(tmp_path/"wire")
    assert len(signals) == bars
    sim = backtest_of(signals.where(signals*side > 0, 0.), candles, cfg, candles.index[START+bars-1])
    both = beside(run, sim)
    assert len(both) == len(sim.trades) == len(run.trades) > 1
    assert (both.exit == both.exit_backtest).all() and (both.pnl - both.pnl_backtest).abs().max() < 2e-3
    assert abs(run.summary["balance"] - sim.equity.iloc[-1]) < 1e-6*cfg.equity
    flat = pd.DataFrame(run.equity).set_index("bar").query("positions == 0").equity
    flat.index = pd.to_datetime(flat.index, unit="s", utc=True)
    assert len(flat) > 10 and (flat - sim.equity.reindex(flat.index)).abs().max() < 1e-6*cfg.equity


def test_both_sides_are_the_backtests_too(program, file, bridge, tmp_path):
    cfg, bars = BacktestConfig(threshold=.02), 120
    run = run_terminal(program, file, inputs_of(cfg) | dict(Port=bridge), start=START, bars=bars, phases="1",
                       wire=tmp_path/"wire", **broker_of(cfg, candles), **EXACT)
    sim = backtest_of(signals_on(tmp_path/"wire"), candles, cfg, candles.index[START+bars-1])
    both = beside(run, sim)
    assert ((both.reason == "signal").any() and (both.reason == both.reason_backtest).all()
            and (both.exit == both.exit_backtest).all())
    assert (both.pnl/both.pnl_backtest - 1).abs().max() < 2e-3


def test_a_gap_through_stop_or_target_is_the_backtests(program, bridge, folder, tmp_path):
    "What has ended at the open is not entered anew in this bar."
    cfg, bars = BacktestConfig(threshold=.02), 60
    high = 1 + .01*(np.arange(len(candles))//7 % 2)
    gaps = candles.assign(**{k: candles[k]*high for k in ("open", "high", "low", "close")})
    run = run_terminal(program, write_candles(gaps, folder/"gaps"), inputs_of(cfg) | dict(Port=bridge),
                       start=START, bars=bars, phases="1", wire=tmp_path/"wire", **broker_of(cfg, gaps), **EXACT)
    sim = backtest_of(signals_on(tmp_path/"wire"), gaps, cfg, gaps.index[START+bars-1])
    both = beside(run, sim)
    assert run.said("a position has ended in this bar") and broken_promises(run, bars) == []
    assert (both.exit == both.exit_backtest).all() and (both.reason == both.reason_backtest).all()


# Orders

def scripted(program, file, bridge, script, inputs=None, **settings):
    settings = dict(bars=6, phases="1") | settings
    return run_terminal(program, file, EAGER | (inputs or {}) | dict(Port=bridge),
                        start=START, script=script, **settings)


def codes(run): return [(o["what"], o["code"]) for o in run.orders]


@pytest.mark.parametrize("code,says", [
    (10018, "the market is closed"), (10019, "the free margin is too small"),
    (10016, "the broker takes no stops so near"), (10006, "rejected")])
def test_a_refused_order_is_told_and_not_repeated(code, says, program, file, bridge):
    run = scripted(program, file, bridge, f"1:{code}")
    assert codes(run)[0][1] == code and run.said(says) and broken_promises(run, 6) == []
    assert run.orders[1]["bar"] > run.orders[0]["bar"]


def test_an_ea_that_is_started_anew_sends_no_second_order(program, file, bridge, tmp_path):
    first = scripted(program, file, bridge, "1:10018", bars=1, variables=tmp_path/"variables")
    again = scripted(program, file, bridge, "", bars=1, variables=tmp_path/"variables")
    assert len(first.orders) == 1 and again.orders == [] and again.said("this bar had its order")


@pytest.mark.parametrize("code", [10004, 10020, 10021])
def test_a_requote_is_tried_once_more(code, program, file, bridge):
    run = scripted(program, file, bridge, f"1:{code}", requote=3)
    assert [c for _, c in codes(run)[:2]] == [code, 10009] and run.orders[0]["bar"] == run.orders[1]["bar"]
    twice = scripted(program, file, bridge, f"1:{code},2:{code}")
    assert [c for _, c in codes(twice)[:2]] == [code, code] and twice.orders[2]["bar"] > twice.orders[1]["bar"]


@pytest.mark.parametrize("code", [10008, 10010, 10012])
@pytest.mark.parametrize("kind", ["hedging", "netting"])
def test_an_order_that_was_done_is_not_sent_again(code, kind, program, file, bridge):
    "Placed, done in part, or timed out though it was done."
    run = scripted(program, file, bridge, f"1:{code}", account=kind)
    assert codes(run)[0][1] == code and broken_promises(run, 6) == []


def test_a_position_that_cannot_be_closed_is_not_turned_over(program, file, bridge):
    run = scripted(program, file, bridge, "2:10018")
    assert (codes(run)[1] == ("close", 10018) and run.orders[2]["bar"] > run.orders[1]["bar"]
            and run.said("is not closed: 10018"))
    assert broken_promises(run, 6) == []


def test_a_frozen_position_is_told(program, file, bridge):
    run = scripted(program, file, bridge, "", freeze_level=5000)
    assert ("close", 10029) in codes(run) and run.said("10029 frozen") and broken_promises(run, 6) == []


def test_positions_of_others_are_left_alone(program, file, bridge):
    "On a netting account they are in the way; on a hedging account the EA has its own beside them."
    netting, hedging = (scripted(program, file, bridge, "", account=kind, foreign=.1)
                        for kind in ("netting", "hedging"))
    assert netting.orders == [] and [t["reason"] for t in netting.trades] == ["end"]
    assert len(hedging.orders) > 2 and next(t for t in hedging.trades if t["ticket"] == 1)["reason"] == "end"


def test_stops_keep_the_brokers_distance(program, file, bridge):
    run = scripted(program, file, bridge, "", stops_level=900, account="hedging")
    assert {c for _, c in codes(run)} == {10009}
    assert all(abs(t["entry_price"] - t["stop"]) >= 0.009 - 1e-9 for t in run.trades)


@pytest.mark.parametrize("inputs,settings,says", [
    (dict(MaxSpreadPoints=10), dict(spread=.0002), "the spread is too wide"),
    (dict(SessionStart=3, SessionEnd=4), {}, "outside of the session"),
    (dict(MaxDailyLoss=.0001), dict(spread=.0005), "the day's loss limit is reached"),
    ({}, dict(algo=0), "algorithmic trading is not allowed"),
    (dict(RiskPercent=1e-4), {}, "the risk is too small for the smallest lot"),
    (dict(SignalsOnly=True), {}, "signals only")])
def test_a_limit_stops_the_entry(inputs, settings, says, program, file, bridge):
    run = scripted(program, file, bridge, "", inputs, **settings)
    assert run.said(says) and broken_promises(run, 6) == []
    assert len({o["bar"] for o in run.orders if o["what"] != "close"}) <= 1


@pytest.mark.parametrize("inputs", [
    dict(MinConfidence=.99), dict(LongRegimes="none", ShortRegimes="none"), dict(Volatilities="none"),
    dict(UseRlAction=True), dict(MinBuyProb=.99, MinSellProb=.99), dict(MinDirection=.99)])
def test_every_condition_must_hold(inputs, program, file, bridge):
    run = scripted(program, file, bridge, "", inputs)
    assert run.orders == []
    assert broken_promises(run, 6) == []
    assert run.tally["answered"] == 6


def test_lots_lose_the_asked_risk_within_the_symbols_limits(program, file, bridge):
    run = scripted(program, file, bridge, "", dict(RiskPercent=1), volume_step=1e-4)
    first = run.trades[0]
    assert .999 <= first["lots"]*100_000*abs(first["entry_price"] - first["stop"])/100 <= 1.0000001
    assert {t["lots"] for t in scripted(program, file, bridge, "", dict(RiskPercent=50), volume_max=.5).trades} == {.5}
    assert {t["lots"] for t in scripted(program, file, bridge, "", dict(RiskPercent=0, FixedLots=.03)).trades} == {.03}


@pytest.mark.parametrize("rate", [.01, 150])
@pytest.mark.parametrize("mode", [0, 1])
def test_an_account_in_another_currency_takes_the_same_lots(mode, rate, program, file, bridge):
    "One unit of the quotes' currency is `rate` of the account's: the same fortune buys the same lots."
    same, other = (scripted(program, file, bridge, "", dict(StopMode=mode), balance=10_000*r, rate=r)
                   for r in (1, rate))
    assert len(same.trades) > 1 and broken_promises(other, 6) == []
    assert [(t["entry"], t["lots"]) for t in other.trades] == [(t["entry"], t["lots"]) for t in same.trades]
    assert [t["pnl"]/rate for t in other.trades] == pytest.approx([t["pnl"] for t in same.trades])


def test_a_plan_is_asked_with_the_equity_in_the_currency_of_the_quotes(program, file, bridge):
    def asked(**settings):
        with Network(bridge) as network:
            run = scripted(program, file, network.port, "", dict(StopMode=1), control=network.control,
                           bars=1, balance=1_500_000, **settings)
        return run, [m.get("equity") for m in map(json_of, network.requests) if m.get("type") == "plan"]
    assert asked(rate=150)[1] == [10_000]
    silent, plans = asked(no_tick_value=1)
    assert plans == [] and silent.orders == [] and silent.said("what a tick is worth")


def test_without_a_plan_atr_is_used_and_said_once(program, file, bridge, secured):
    inputs, settings = secured
    run = scripted(program, file, inputs["Port"], "", inputs | dict(StopMode=1), **settings)
    assert sum("knows no plan" in p for p in run.prints) == 1 and run.orders and broken_promises(run, 6) == []
    assert [o["bar"] for o in run.orders] == [o["bar"] for o in scripted(program, file, bridge, "").orders]


@pytest.mark.parametrize("risk", [0, 1])
def test_a_plan_of_the_real_bridge_is_followed(risk, program, file, bridge):
    run = scripted(program, file, bridge, "", dict(StopMode=1, RiskPercent=risk))
    assert run.orders and not any("knows no plan" in p or "refuses the plan" in p for p in run.prints), run.prints
    assert all(t["stop"] > 0 for t in run.trades) and broken_promises(run, 6) == []


def test_a_plan_of_another_model_or_bar_is_not_followed(program, file, bridge):
    with Network(bridge, OtherPlan()) as network:
        run = scripted(program, file, network.port, "", dict(StopMode=1), control=network.control)
    assert run.orders == [] and run.said("the plan is of another bar or model") and broken_promises(run, 6) == []


# The golden conversations

@pytest.mark.parametrize("name", SESSIONS)
def test_the_terminal_says_the_golden_lines(name, program, file):
    session = read_session(name)
    heard, run = play(program, file, name)
    assert heard == [s["line"] for s in session if s["from"] == "terminal"], (
        "`python mql5/sim/contract.py` writes them anew")
    if name != "session":
        assert run.said("the bridge says invalid: " + json.loads(session[1]["line"])["message"])
        return
    assert broken_promises(run, 3) == [] and run.tally["missed"] == 1
    assert (run.said("policy LONG")
            and [d.split()[0] for d in run.drawn] == ["Natron.range.50", "Natron.range.80", "Natron.range.95"])
    plan = next(m for s in session if (m := json.loads(s["line"]))["type"] == "plan" and s["from"] == "bridge")["data"]
    assert len(run.trades) == 1
    assert ((run.trades[0]["lots"], run.trades[0]["stop"], run.trades[0]["target"])
            == (plan["size"]/1e5, plan["stop"], plan["target"]))


def today(m):
    "A message whose clocks are moved to today, both by the same; the broker's is two hours ahead in all sessions."
    if "broker_time" not in m: return m
    later = int(time.time()) + 7200 - m["broker_time"]
    return m | {k: m[k] + later for k in ("broker_time", "gmt_time")}


@pytest.mark.parametrize("name", SESSIONS)
def test_the_bridge_takes_the_golden_lines(name, bridge):
    """The real bridge answers each with the type and the fields of the golden answer;
    a policy's action where it knows one."""
    later = {"rl_action", "rl_probs", "rl_position"}
    session = [(s["from"], json.loads(s["line"])) for s in read_session(name)]
    golden = {m["id"]: m for who, m in session if who == "bridge" and "id" in m}
    with socket.create_connection(("127.0.0.1", bridge)) as s, s.makefile("rb") as lines:
        for who, m in session:
            if who == "bridge" or m["type"] == "pong": continue
            s.sendall(json.dumps(today(m)).encode() + b"\n")
            said, wanted = json.loads(lines.readline()), golden[m["id"]]
            assert said["id"] == m["id"]
            if wanted.get("code") == "internal": continue
            assert said["type"] == wanted["type"] and set(said) == set(wanted)
            if "data" in wanted: assert set(wanted["data"]) - later <= set(said["data"])
            else: assert [said[k] for k in ("code", "field")] == [wanted[k] for k in ("code", "field")]


# freqtrade

@pytest.fixture
def strategy(monkeypatch, server):
    "The strategy of the documentation, with freqtrade's own base class where it is installed."
    try: import freqtrade.strategy
    except ImportError:
        stub = types.ModuleType("freqtrade.strategy")
        stub.IStrategy = type("IStrategy", (), dict(dp=None, __init__=lambda self, config: None))
        # as freqtrade's: how far the stop is below the price, as a share of it
        stub.stoploss_from_absolute = lambda stop, rate, is_short=False, leverage=1.: max(1 - stop/rate, 0)*leverage
        monkeypatch.setitem(sys.modules, "freqtrade", types.ModuleType("freqtrade"))
        monkeypatch.setitem(sys.modules, "freqtrade.strategy", stub)
    s = runpy.run_path(root/"docs/NatronStrategy.py")["NatronStrategy"]({})
    s.natron, s.threshold, s.dp = server.urls[0], .01, running("dry_run")
    return s


def running(mode): return types.SimpleNamespace(runmode=types.SimpleNamespace(value=mode))


class Trade:
    is_short, leverage, entry_side = False, 1., "buy"
    def __init__(self): self.kept = {}
    def set_custom_data(self, k, v): self.kept[k] = v
    def get_custom_data(self, k): return self.kept.get(k)


def test_the_freqtrade_strategy(strategy, model):
    from natron.predictor import load_predictor
    recent = candles[-512:]
    frame = recent.reset_index(names="date")
    frame = strategy.populate_exit_trend(
        strategy.populate_entry_trend(strategy.populate_indicators(frame, dict(pair="EUR/USD")), {}), {})
    predictor = load_predictor(model)
    probs = predictor.predict(recent)["direction_probs"]
    assert (frame.natron.notna().sum() == 1
            and frame.natron.iloc[-1] == pytest.approx(probs["UP"] - probs["DOWN"], abs=1e-6))
    assert frame.enter_long.iloc[-1] == 1 and frame.enter_long.sum() == 1
    assert frame.exit_long.isna().all()
    assert (frame.natron_stop.iloc[-1]
            == pytest.approx(predictor.plan(recent, "long", stop_chance=strategy.stop_chance)["stop"], abs=1e-5))
    strategy.dp = types.SimpleNamespace(get_analyzed_dataframe=lambda pair, timeframe: (frame, None))
    trade = Trade()
    assert strategy.custom_stoploss("EUR/USD", trade, None, 1.2, 0., False) is None
    strategy.order_filled("EUR/USD", trade, types.SimpleNamespace(ft_order_side="buy"), None)
    assert (strategy.custom_stoploss("EUR/USD", trade, None, 1.25, 0., False)
            == pytest.approx(1 - frame.natron_stop.iloc[-1]/1.25))


def test_the_freqtrade_strategy_asks_nothing_in_a_backtest(strategy):
    strategy.dp, strategy.natron = running("backtest"), "http://127.0.0.1:1"
    assert strategy.populate_indicators(candles[-200:].reset_index(names="date"), {}).natron.isna().all()


def test_the_freqtrade_strategy_without_a_plan(strategy, monkeypatch):
    "A server that knows no such route answers 404."
    assert strategy.ask("/no_such_route") is None
    monkeypatch.setattr(type(strategy), "ask",
                        lambda self, route, **body: None if route == "/plan" else dict(
                            direction_probs=dict(UP=.5, DOWN=.2), warnings=[]))
    recent = candles[-200:]
    frame = strategy.populate_indicators(recent.reset_index(names="date"), {})
    reach = (recent.high - recent.low)[-14:].mean()
    assert (frame.natron_stop.iloc[-1], frame.natron.iloc[-1]) == (pytest.approx(recent.close.iloc[-1] - 2*reach), .3)


# The documentation

def test_the_inputs_are_documented_as_they_are():
    declared = re.findall(r"^input\s+\w+\s+(\w+)\s*=\s*(\S+);\s*// (.*)$", source.read_text(), re.M)
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", (root/"docs/metatrader.md").read_text(), re.M))
    assert rows == {name: value for name, value, _ in declared} and len(declared) > 30
