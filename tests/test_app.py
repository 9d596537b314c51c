"The page in a real browser: `natron serve` in a process of its own, Chromium, a mouse and a keyboard."
import json, re, shutil, time
import httpx, pytest
from natron.bridge import BridgeClient
from natron.candles import sample_candles
from natron.ranges import range_sentence
from served import PATIENCE, VERDICT, ForkedServer, save_acting

chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser"),
              pytest.mark.skipif(not chromium, reason="no chromium, chromium-browser or google-chrome on the PATH")]
# What is there, and what it says, when a tab is filled.
TABS = {"Explanation": ("#attention", "head"), "Similar history": ("#similar", "ended, UTC"),
        "Track record": ("#evaluation", "out-of-sample bars"), "Backtest": ("#backtest", "trial"),
        "Drift": ("#drift", "features drifted"), "Limitations": ("#limitations", "no news")}
sample = sample_candles()
csv = sample[-700:].to_csv().encode()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as pw:
        b = pw.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield b
        b.close()


def serve(model, *args, **kw): return ForkedServer("serve", "--model", model, "--port", 0, *args, **kw)


@pytest.fixture(scope="module")
def served(toy_model):
    with serve(toy_model, "--bridge-port", 0, servers=2) as s: yield s


class Visit:
    "A page in the browser that remembers what went wrong and what was asked of whom."
    # of a stranger, the browser itself notes the refusals
    def __init__(self, browser, url, width=1440, height=900, stranger=False, **kw):
        self.url, self.faults, self.asked, self.stranger = url, [], [], stranger
        self.context = browser.new_context(viewport=dict(width=width, height=height), **kw)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE*1000)
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type == "error"
                     and not (self.stranger and re.search("40[13]", m.text)) else None)
        self.page.on("pageerror", lambda e: self.faults.append(str(e)))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.goto(url)

    def text(self, place): return self.page.locator(place).inner_text()
    def until(self, what):
        "Wait until a function of this visit is true."
        end = time.monotonic()+PATIENCE
        while not what():
            assert time.monotonic() < end, self.text("body")[:3000]
            self.page.wait_for_timeout(50)

    def ready(self):
        "Wait for verdict, candles, and the first tab."
        self.page.wait_for_selector("#market .main-svg")
        self.page.wait_for_selector("#planned .main-svg")
        return self

    def drawn(self, place, name):
        "Heights of a line in a chart; None where there is no such line."
        return self.page.evaluate("([place, name]) => document.querySelector(`${place} .plot`)"
                                  ".data.find(d => d.name === name)?.y", [place, name])

    def reload(self):
        "Load the page again; what the page that is left says of its stream, which breaks off, is no fault."
        before = len(self.faults)
        self.page.reload()
        self.faults[before:] = [f for f in self.faults[before:]
                                if not re.search("aborted|Connection errored out|404: Not Found", f)]

    def __enter__(self): return self
    def __exit__(self, kind, *e):
        self.context.close()
        if not kind:
            assert not self.faults, self.faults
            assert not (outside := [u for u in self.asked if not u.startswith((self.url, "data:", "blob:"))]), outside


def bar(v): return re.search(r"bar of (\S+ \S+) UTC", v.text("#verdict"))[1]


def test_it_opens_with_an_answer(browser, served):
    "Verdict and candles are there at once; what stands there is what REST says; nothing is asked of another computer."
    httpx.get(served.urls[0], timeout=PATIENCE)
    with Visit(browser, served.urls[0]) as v:
        v.ready()
        paint = v.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        print(f"first paint after {paint:.0f} ms")
        said = httpx.post(f"{served.urls[0]}/predict",
                          json=dict(candles=[dict(time=t.isoformat(), **r) for t, r in sample[-512:].iterrows()],
                                    symbol="EURUSD"), timeout=PATIENCE).json()
        assert v.text("#verdict .sentence").startswith(range_sentence(said["range"]))
        assert v.drawn("#market", "close, 80 %")[5:7] == said["range"]["24"]["close"]["80"]     # the cone's right end

        v.page.locator("#verdict .nowcasts > summary").click()
        cards = v.page.locator("#verdict .card").all_inner_texts()
        assert len(cards) == 6 and bar(v) == "2017-12-29 21:00"
        for c in cards:
            name = c.split()[0]
            p = (max(said[f"{name}_prob"], 1-said[f"{name}_prob"]) if f"{name}_prob" in said
                 else max(said[f"{name}_probs"].values()))
            assert (f"{p:.0%} (" in c
                    and re.search("nowcast: describes now|forecast: the next (12|24) bars", c)), (name, c)

        assert (f"Confidence {said['confidence']:.0%}: the expected share of such forecasts that are right"
                in v.text("#verdict .confidence"))
        for task, sure in said["confidence_by_task"].items():
            assert f"{task} {sure:.0%}" in v.text("#verdict .confidence")
        assert "not the chance that this one is" in v.text("#verdict .confidence")

        assert said["model"]["sha256"] in v.text("#verdict .model")
        assert "trained on EURUSD" in v.text("#verdict .model")
        assert "its data end 2017-" in v.text("#verdict .model")
        v.until(lambda: "Measured accuracy" in v.text("#measured"))
        assert re.search(r"volatility \d+% of 588 bars \(prior \d+%\)", v.text("#measured"))
        assert "count" not in v.text("#verdict")
        assert v.page.get_by_role("tab", name="Policy").count() == 0                           # this model has none
        assert v.text("#market .kind") == "nowcast: buy, sell, regime; forecast: range, confidence"
        for k in v.page.locator(".figure .kind:visible").all_inner_texts(): assert k


def hover(v, part):
    "Move the mouse over the market's chart, so far from its left."
    v.page.locator("#market").scroll_into_view_if_needed()
    box = v.page.locator("#market .nsewdrag").first.bounding_box()   # a warning above moves it
    for off in (3, 0): v.page.mouse.move(box["x"] + part*box["width"] - off, box["y"] + 40)


def click(v, part):
    "Click there; a chart that is not ready yet does not hear it, so whoever waits for the answer clicks again."
    hover(v, part)
    v.page.wait_for_timeout(150)
    v.page.mouse.down()
    v.page.mouse.up()
    v.page.wait_for_timeout(500)


def test_another_bar_by_click_and_by_keyboard(browser, served):
    "A bar that is not there is refused in a sentence, and the slider goes back."
    with Visit(browser, served.urls[0]) as v:
        v.ready()
        for part in (.3, .6, .45):
            was = bar(v)
            v.until(lambda: click(v, part) or bar(v) != was)
        was = bar(v)
        handle = v.page.locator("#bar input[type=range]")
        handle.focus()
        v.page.keyboard.press("ArrowLeft")
        v.until(lambda: bar(v) < was)

        v.page.locator("#bar input[type=number]").fill("300")
        v.page.keyboard.press("Enter")
        v.page.wait_for_selector("#verdict [data-code=fitted_bars]")
        v.until(lambda: "in-sample" in v.text("#market"))

        was = bar(v)
        number = v.page.locator("#bar input[type=number]")
        at = number.input_value()
        for wrong in ("5", "99999"):
            number.fill(wrong)
            v.page.keyboard.press("Enter")
            v.until(lambda: "⚠" in v.text("#notice"))
            v.until(lambda: number.input_value() == at)
            assert bar(v) == was


def test_candles_of_a_visitor(browser, served):
    "A good file and a good paste are shown; five bad files are refused in one sentence, and change nothing."
    bad = {"high.csv": (csv.replace(csv.splitlines()[7].split(b",")[2], b"0.5", 1), "line 8, row 6"),
           "words.txt": (b"hello", "expected columns"),
           "picture.png": (b"\x89PNG\r\n\x1a\n\0\0", "none"),
           "short.csv": (b"\n".join(csv.splitlines()[:51]), "reads 96 candles"),
           "large.csv": (b"1"*6_100_000, "at most 6 MB")}
    with Visit(browser, served.urls[0]) as v:
        v.ready()
        v.page.get_by_role("button", name="Your own candles").click()
        was = bar(v)
        for name, (data, says) in bad.items():
            v.page.set_input_files("#send input[type=file]", files=[dict(name=name, mimeType="text/csv", buffer=data)])
            v.until(lambda: says in v.text("#notice"))
            print(v.text("#notice")[:200])
            assert "nothing has changed" in v.text("#notice") and bar(v) == was

        v.page.set_input_files("#send input[type=file]", files=[
            dict(name="<i>mine</i>.csv", mimeType="text/csv", buffer=sample[-900:-200].to_csv().encode())])
        v.until(lambda: "700 candles" in v.text("#notice"))
        assert (bar(v) == f"{sample.index[-201]:%Y-%m-%d %H:%M}" and "<i>mine</i>" in v.text("#verdict")
                and "mine" in v.page.locator("#source input").input_value())

        rows = [[int(t.timestamp()*1000), *r]
                for t, r in zip(sample.index[-300:-50], sample[-300:-50].to_numpy().tolist())]
        v.page.locator("#send textarea").fill(json.dumps(rows))
        v.page.get_by_role("button", name="Read the pasted candles").click()
        v.until(lambda: "250 candles" in v.text("#notice"))
        assert bar(v) == f"{sample.index[-51]:%Y-%m-%d %H:%M}" and "of the 512 candles" in v.text("#verdict")


dear = (sample[-700:].assign(**{k: (1e5*sample[k][-700:]).round(-1) for k in ("open", "high", "low", "close")})
        .drop(sample.index[-300:-290]))


def test_another_instrument(browser, served):
    "Each warning once, prices in the instrument's own digits, and a market without volume behind its box."
    mute = sample[-700:].drop(columns="volume").to_csv().encode()
    with Visit(browser, served.urls[0]) as v:
        v.ready()
        v.page.get_by_role("button", name="Your own candles").click()
        v.page.set_input_files("#send input[type=file]", files=[
            dict(name="GBPJPY.csv", mimeType="text/csv", buffer=dear.to_csv().encode())])
        v.until(lambda: "690 candles" in v.text("#notice"))
        assert v.page.locator("#verdict [data-code=unknown_instrument]").count() == 1
        assert v.text("body").count("alarm") == 1
        assert "690 candles" in v.text("#sent")
        ticks = v.page.locator("#market .ytick text").all_text_contents()
        assert re.fullmatch(r"1\d\d,\d{3}", ticks[0]), ticks
        shown = v.page.locator("#market .hoverlayer text")
        v.until(lambda: hover(v, .5) or re.search(r"open: 1\d\d,\d{3}", " ".join(shown.all_text_contents())))
        v.page.set_input_files("#send input[type=file]",
                               files=[dict(name="mute.csv", mimeType="text/csv", buffer=mute)])
        v.until(lambda: "tick “This market reports no volume”" in v.text("#notice"))
        v.page.locator("#send input.none").check()
        v.page.set_input_files("#send input[type=file]",
                               files=[dict(name="mute.csv", mimeType="text/csv", buffer=mute)])
        v.until(lambda: "no volume" in v.text("#notice") and "700 candles" in v.text("#notice"))
        v.until(lambda: "mute" in v.text("#verdict h1"))


def test_a_reload_changes_nothing(browser, served):
    "Tab, bar, settings and a visitor's own candles are there again; candles that the server lost are asked for."
    with Visit(browser, served.urls[0]) as v:
        v.ready()
        v.page.get_by_role("button", name="Your own candles").click()
        v.page.set_input_files("#send input[type=file]", files=[dict(name="mine.csv", mimeType="text/csv", buffer=csv)])
        v.until(lambda: "700 candles" in v.text("#notice"))
        v.page.locator("#bar input[type=number]").fill("500")
        v.page.keyboard.press("Enter")
        v.until(lambda: bar(v) == f"{sample.index[-200]:%Y-%m-%d %H:%M}")
        v.page.get_by_role("tab", name="Backtest").click()
        v.until(lambda: "a pip is assumed to be 0.0001" in v.text("#backtest"))
        v.page.locator("#threshold input[type=number]").fill("0.02")
        v.page.keyboard.press("Enter")
        v.until(lambda: '0.02' in (v.page.evaluate("sessionStorage.getItem('natron')") or ""))

        v.reload()
        v.until(lambda: "mine" in v.text("#verdict h1"))
        assert bar(v) == f"{sample.index[-200]:%Y-%m-%d %H:%M}"
        v.until(lambda: "a pip is assumed" in v.text("#backtest"))
        assert v.page.locator("#threshold input[type=number]").input_value() == "0.02"
        assert v.page.get_by_role("tab", name="Backtest").get_attribute("aria-selected") == "true"
        assert "mine" in v.page.locator("#source input").input_value()

        kept = json.loads(v.page.evaluate("sessionStorage.getItem('natron')"))
        v.page.evaluate("kept => sessionStorage.setItem('natron', kept)",
                        json.dumps(kept | dict(key="lost", mine=["lost"])))
        v.reload()
        v.until(lambda: "mine.csv is no longer held here" in v.text("#notice"))
        assert "on EURUSD" in v.text("#verdict h1")
        v.page.evaluate("sessionStorage.setItem('natron', '{')")
        v.reload()
        v.until(lambda: "on EURUSD" in v.text("#verdict h1") and not v.text("#notice"))


def test_tabs_heads_and_sliders(browser, served):
    "Every tab fills when it is opened; heads and costs change what is shown, and each setting counts as a trial."
    with Visit(browser, served.urls[0]) as v:
        v.ready().page.get_by_role("tab", name="Explanation").click()
        v.until(lambda: "all heads" in v.text("#attention"))
        assert v.page.locator("#explanation tr").count() == 9
        v.page.locator("#head input").click()
        v.page.get_by_role("option", name="2").click()
        v.until(lambda: "all layers, head 2" in v.text("#attention"))

        for tab, (place, says) in TABS.items():
            v.page.get_by_role("tab", name=tab).click()
            v.until(lambda: says in v.text(place))

        v.page.get_by_role("tab", name="Backtest").click()
        v.until(lambda: "best of 1 trial" in v.text("#backtest"))
        v.page.locator("#threshold input[type=number]").fill("0.01")
        v.page.keyboard.press("Enter")
        v.until(lambda: "best of 2 trials" in v.text("#backtest"))
        cheap = v.text("#backtest")
        v.page.locator("#spread input[type=range]").focus()
        v.page.keyboard.press("End")
        v.until(lambda: "trials" in v.text("#backtest") and v.text("#backtest") != cheap)


def drag(v, line, by):
    "Move a line of the plan's chart down by so many pixels."
    v.page.locator("#planned").scroll_into_view_if_needed()
    box = v.page.locator("#planned .shapelayer path").nth(line).bounding_box()
    x, y = box["x"] + box["width"]*.6, box["y"] + box["height"]/2
    v.page.mouse.move(x, y)
    v.page.mouse.down()
    for k in (.5, 1): v.page.mouse.move(x, y + k*by)
    v.page.mouse.up()


def test_a_plan(browser, served):
    """Stop and target are typed or dragged, and the chances follow, those of REST; a bad stop says so in its field;
    another bar has other levels."""
    with Visit(browser, served.urls[0]) as v:
        stop, target = (v.ready().page.locator(f"#{k} input") for k in ("stop", "target"))
        chance = lambda: re.search(r"stop first\s+(\d+%)", v.text("#plan"))[1]
        v.until(lambda: "stop first" in v.text("#plan"))
        rows = [dict(time=t.isoformat(), **r) for t, r in sample[-512:].iterrows()]
        asked = dict(candles=rows, symbol="EURUSD", side="long", stop=1.199, target=float(target.input_value()))
        said = httpx.post(f"{served.urls[0]}/plan", json=asked, timeout=PATIENCE).json()
        assert chance() != f"{said['p_stop']:.0%}"
        stop.fill("1.199")
        v.until(lambda: chance() == f"{said['p_stop']:.0%}")
        drag(v, 0, 40)
        v.until(lambda: float(stop.input_value()) < 1.1985)
        v.until(lambda: int(chance()[:-1]) < round(100*said["p_stop"]))
        stop.fill("1.3")
        v.until(lambda: "wrong side" in v.text("#stop"))
        assert "see what the field stop says" in v.text("#plan")
        v.page.locator("#side").get_by_text("short").click()
        v.until(lambda: "short from" in v.text("#plan") and 1.20075 < float(stop.input_value()) < 1.25)
        v.page.locator("#bar input[type=number]").fill("3000")
        v.page.keyboard.press("Enter")
        v.until(lambda: float(stop.input_value()) < 1.2)


def fits(v, width):
    "Every tab can be reached, and nothing in it is wider than the screen."
    for tab, (place, says) in (TABS | {"Plan": ("#plan", "stop first")}).items():
        v.page.get_by_role("tab", name=tab, exact=tab == "Plan").click()
        v.until(lambda: says in v.text(place))
        assert v.page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width], tab
        wide = v.page.evaluate("[...document.querySelectorAll('#verdict *, .figure, .plot')]"
                               ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).length")
        assert not wide, tab


def test_the_episode_of_a_policy(browser, toy_model, tmp_path):
    """A model with a policy has one tab more: its verdict, its action at the chosen bar,
    and an episode along which a slider moves."""
    save_acting(toy_model, tmp_path/"acting.pt")
    with serve(tmp_path/"acting.pt") as s, Visit(browser, s.urls[0], 390, 844) as v:
        v.ready().page.get_by_role("tab", name="Policy").click()
        v.until(lambda: "none of these 240" in v.text("#policy"))
        assert VERDICT["sentence"] in v.text("#policy")
        fits(v, 390)
        assert not v.page.evaluate("document.body.classList.contains('dark')")
        v.page.get_by_role("tab", name="Policy").click()
        seen, rail = v.page.locator("#episode .slider-label").first, v.page.locator("#episode .slider-rail-touch-rect")
        first = f"{sample.index[-240]:%d %b %H:%M}"
        assert seen.text_content() == f"from {first}"
        rail.click(position=dict(x=rail.bounding_box()["width"]-5, y=8))
        v.until(lambda: seen.text_content() == f"from {sample.index[-80]:%d %b %H:%M}")
        v.page.locator("#bar input[type=number]").fill("3000")
        v.page.keyboard.press("Enter")
        v.until(lambda: "all of these 240" in v.text("#policy") and "in-sample" in v.text("#episode .plot"))


def offered(v, option):
    """Whether the list of sources has this option;
    it is opened anew, as an open list does not grow, and it opens when it gets the focus."""
    v.page.evaluate("document.activeElement.blur()")
    v.page.locator("#source input").click()
    from playwright.sync_api import TimeoutError as PlaywrightTimeout
    try:
        option.wait_for(timeout=3_000)
        return True
    except PlaywrightTimeout: return False


def test_it_follows_a_live_market(browser, served):
    """A symbol that comes over the bridge can be chosen; its next candle shows itself, in every part of the page;
    whoever looks at an earlier bar stays there; a history sent anew is another market."""
    host, port = "127.0.0.1", int(served.urls[1].rpartition(":")[2])
    with Visit(browser, served.urls[0]) as v, \
         BridgeClient(host, port, symbol="GBPUSD", timeframe="H1", timeout=PATIENCE) as bridge:
        v.ready().page.get_by_role("tab", name="Explanation").click()
        bridge.history(sample[-600:-3])
        bridge.append(sample.iloc[-3])
        live = v.page.get_by_role("option", name="GBPUSD, live")
        v.until(lambda: offered(v, live))
        live.click()
        v.until(lambda: "on GBPUSD, bar of 2017-12-29 19:00" in v.text("#verdict"))
        v.until(lambda: "bar of 2017-12-29 19:00" in v.text("#explanation"))
        assert "The last candle closed" in v.text("#verdict")

        live = bridge.append(sample.iloc[-2])
        v.until(lambda: "on GBPUSD, bar of 2017-12-29 20:00" in v.text("#verdict"))
        p = max(live["volatility_probs"].values())
        assert any(c.split()[0] == "volatility" and f"{p:.0%}" in c
                   for c in v.page.locator("#verdict .card").all_inner_texts())
        v.until(lambda: "bar of 2017-12-29 20:00" in v.text("#explanation"))

        v.page.locator("#bar input[type=number]").fill("300")
        v.page.keyboard.press("Enter")
        v.until(lambda: "12-29" not in bar(v))
        was = bar(v)
        bridge.append(sample.iloc[-1])
        v.until(lambda: "A new candle has closed" in v.text("#notice"))
        assert bar(v) == was
        v.until(lambda: f"bar of {was}" in v.text("#explanation"))

        v.page.locator("#bar input[type=number]").fill("511")
        v.page.keyboard.press("Enter")
        v.until(lambda: "2017-12-29 21:00" in bar(v))
        said = v.text("#verdict .cards >> nth=0")
        bridge.history(sample[-600:][::-1].set_axis(sample.index[-600:]))
        v.until(lambda: v.text("#verdict .cards >> nth=0") != said)
        now = httpx.post(f"{served.urls[0]}/predict",
                         json=dict(symbol="GBPUSD", candles=[
                             dict(time=t.isoformat(), **r)
                             for t, r in zip(sample.index[-512:], sample[-600:][::-1].to_dict("records")[-512:])]),
                         timeout=PATIENCE).json()
        assert any(c.split()[0] == "volatility" and f"{max(now['volatility_probs'].values()):.0%}" in c
                   for c in v.page.locator("#verdict .card").all_inner_texts())
        bridge.history(sample[-40:])
        v.until(lambda: "not up to date" in v.text("#notice"))


def test_it_fits_the_screen(browser, served):
    """In the dark, on a telephone and on a desk;
    in the light, the other tests are on a desk, and the one of a policy on a telephone."""
    with Visit(browser, served.urls[0], 390, 844, color_scheme="dark") as v:
        fits(v.ready(), 390)
        v.page.set_viewport_size(dict(width=1440, height=900))
        # drawn again
        v.page.wait_for_function("document.querySelector('#planned .main-svg').getBoundingClientRect().width > 390")
        fits(v, 1440)
        assert v.page.evaluate("document.body.classList.contains('dark')")


def test_whoever_has_no_token_sees_a_form(browser, toy_model):
    with serve(toy_model, NATRON_TOKEN="secret") as s:
        with Visit(browser, s.urls[0], stranger=True) as v:
            v.page.get_by_label("Token").fill("wrong")
            v.page.keyboard.press("Enter")
            v.until(lambda: "not the server's token" in v.text("body"))
            v.page.get_by_label("Token").fill("secret")
            v.page.keyboard.press("Enter")
            v.ready()
            cookie = next(c for c in v.context.cookies() if c["name"].startswith("natron_"))
            assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and "secret" not in cookie["value"]
        with Visit(browser, s.urls[0], stranger=True) as v: v.page.get_by_label("Token").wait_for()
        log = s.stop()
        assert "secret" not in log and "Traceback" not in log, log[-2000:]
