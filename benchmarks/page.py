"""How soon the page answers, in a real Chromium:
`python benchmarks/page.py --model runs/demo/natron_v2.pt [--out FILE]`.

A server of its own with the page, a browser beside it on the same machine. The first paint of a page that was never
open before; the time from a click on a candle to the verdict on that bar; from opening a tab until it is filled (not of
the first, which opens with the page). Beside them stand what they cannot be faster than: an empty page in the same
browser, and the prediction itself over REST, from the same server in the same minute. Medians, and 90th percentiles.
It needs Chromium on the PATH and playwright.
"""
import argparse, os, platform, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path

import httpx, numpy as np, psutil
from playwright.sync_api import sync_playwright
from natron.candles import sample_candles
from common import save, table

FILLED = {"Explanation": "#explanation tr", "Similar history": "#similar tr", "Track record": "#evaluation tr",
          "Backtest": "#backtest tr", "Policy": "#episode .main-svg", "Drift": "#drift p",
          "Limitations": "#limitations li"}
BROWSERS = "chromium", "chromium-browser", "google-chrome"
ASKED = {"first paint": "2,000", "click on a candle, until its verdict": "300"}


def until(what, seconds=120):
    "Milliseconds until a function is true."
    start = time.perf_counter()
    while not what():
        if time.perf_counter() > start + seconds: raise RuntimeError("the page does not answer")
        time.sleep(.002)
    return 1e3*(time.perf_counter()-start)


def opened(browser, url, fill=True):
    "A new visitor's page, and when it was first painted, in milliseconds."
    page = browser.new_context(viewport=dict(width=1440, height=900)).new_page()
    page.set_default_timeout(120_000)                        # a busy machine takes longer than the usual 30 s
    page.goto(url)
    if fill:
        page.wait_for_selector("#planned .main-svg, #attention .main-svg")
        page.wait_for_timeout(1_000)
    painted = "performance.getEntriesByName('first-contentful-paint')"
    page.wait_for_function(f"{painted}.length")
    return page, page.evaluate(f"{painted}[0].startTime")


def clicks(page, n):
    "Milliseconds from each click to the verdict on another bar."
    box, verdict = page.locator("#market .nsewdrag").first.bounding_box(), page.locator("#verdict h1")
    took = []
    for k in range(n):
        was, x, y = verdict.inner_text(), box["x"] + box["width"]*(.1 + .8*(.35*k % 1)), box["y"] + 40
        page.mouse.move(x-3, y)
        page.mouse.move(x, y)
        page.wait_for_timeout(700)
        page.mouse.down()
        page.mouse.up()
        took.append(until(lambda: verdict.inner_text() != was))
        page.wait_for_timeout(500)
    return took


def tabs(page):
    "Milliseconds until each tab that the model has, but the one that is open, is filled for the first time."
    for name, place in FILLED.items():
        tab = page.get_by_role("tab", name=name)
        if not tab.count() or tab.get_attribute("aria-selected") == "true": continue
        tab.click()
        yield f"tab {name}, first time", [until(lambda: page.locator(place).first.is_visible())]
        page.wait_for_timeout(500)


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--model", required=True, type=Path)
    a.add_argument("--clicks", type=int, default=20)
    a.add_argument("--out", type=Path)
    a = a.parse_args()
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not chromium: sys.exit(f"none of {', '.join(BROWSERS)} is on the PATH")
    log = tempfile.TemporaryFile("w+")                       # a pipe that nobody reads would fill, and the server wait
    server = subprocess.Popen([sys.executable, "-c", "from natron.cli import main; main()",
                               "serve", "--model", a.model, "--port", "0"],
                              stdout=subprocess.PIPE, stderr=log, text=True)
    body = dict(candles=[dict(time=t.isoformat(), **r) for t, r in sample_candles()[-512:].iterrows()])
    ms = {}
    try:
        if not (line := server.stdout.readline()):
            log.seek(0)
            sys.exit(f"the server did not start: {log.read()}")
        url = line.split()[-1]
        httpx.get(url, timeout=120)
        memory = psutil.Process(server.pid).memory_info().rss/1e6
        with sync_playwright() as pw, httpx.Client(timeout=60) as web:
            browser = pw.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            ms["an empty page"] = [opened(browser, "data:text/html,<p>x", fill=False)[1] for _ in range(5)]
            pages = [opened(browser, url) for _ in range(5)]
            ms["first paint"] = [t for _, t in pages]
            for page, _ in pages[1:]: page.close()
            page = pages[0][0]
            ms["REST, a prediction of 512 candles"] = [
                1e3*web.post(f"{url}/predict", json=body).raise_for_status().elapsed.total_seconds()
                for _ in range(a.clicks)]
            ms["click on a candle, until its verdict"] = clicks(page, a.clicks)
            ms |= tabs(page)
    finally:
        server.terminate()
        server.wait()
    about = f"{platform.machine()}, {os.cpu_count()} cores; the server takes {memory:.0f} MB when it has started"
    text = [about, table(["milliseconds", "median", "90 %", "asked"],
                         [(k, f"{statistics.median(v):,.0f}", f"{np.quantile(v, .9):,.0f}" if len(v) > 1 else "",
                           ASKED.get(k, "")) for k, v in ms.items()])]
    print(*text, sep="\n\n")
    save(a.out, text)
