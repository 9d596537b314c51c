"""README and docs as a newcomer uses them: commands, outputs, Python, settings, names and links.

The fenced blocks of a document are run in their order, in a folder with the demonstration's run. The convention:

- ```console: lines that begin with `$ ` are commands, the others are their output (standard error if there is none).
- ```python is run, and a ```text block right after it is what it prints. ```sh is run, and shows no output.
- <!-- parsed only: REASON --> before a block: nothing is run, but every option and setting of its commands must exist.
- `...` in an output stands for anything. The run here is a short one, so a figure (decimal fraction, percentage), a
  content hash, a class, a baseline and the kind of "no edge" (of a range: "not told apart") stand for any other;
  everything else must be equal.
"""
import ast, contextlib, functools, io, json, os, re, shlex, shutil, socket, subprocess, sys, urllib.request
from configparser import ConfigParser
from pathlib import Path
from typing import NamedTuple
import pytest, yaml
from natron.candles import sample_candles
from natron.cli import app
from natron.config import load_config, setting_names
from served import PATIENCE, ForkedServer
from test_cli import natron, run

root = Path(__file__).resolve().parent.parent
documents = [root/"README.md", *sorted((root/"docs").glob("*.md"))]
texts = {p: p.read_text(encoding="utf-8") for p in documents}
each = pytest.mark.parametrize("path", documents, ids=lambda p: p.stem)
commands = {c.name or c.callback.__name__.replace("_", "-"): c for c in app.registered_commands}


class Block(NamedTuple):
    "A fenced block: its language, text, the output that follows Python, and why it is only parsed."
    language: str
    text: str
    printed: str | None
    why: str | None


fence = re.compile(r"(?:^<!-- parsed only: (?P<why>[^\n]+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$"
                   r"(?:\n\n```text\n(?P<printed>.*?)^```$)?", re.M | re.S)


def blocks(text): return [Block(m["language"], m["text"], m["printed"], m["why"]) for m in fence.finditer(text)]


def steps(block):
    "The commands of a block, each with its output; None where none is shown."
    if block.language == "console":
        return [step.partition("\n")[::2] for step in re.split(r"^\$ ", block.text, flags=re.M)[1:]]
    return [(line, None) for line in block.text.splitlines() if line.strip()]


# What is compared

def picked(metrics):
    "A pattern for the names that depend on the training: classes and baselines."
    answers = [*metrics["prediction"].values()]
    classes = {c for a in answers for k, probs in a.items() if k.endswith("_probs") for c in probs}
    baselines = {b for scores in metrics["scores"]["scores"].values() for b in scores} - {"model"} | {"lightgbm"}
    return rf"\b({'|'.join(sorted(classes | baselines, key=len, reverse=True))})\b"


def shape(text, names):
    "The text with one mark for each figure, content hash, picked name and kind of no edge; blanks count once."
    text = re.sub(r"\b[0-9a-f]{12}\b", "#", text)
    text = re.sub(r"[+-]?\d[\d,]*(\.\d+)?(e-\d+|%)|[+-]?\d[\d,]*\.\d+", "0.0", text)
    text = re.sub("no edge over|no edge: worse than", "no edge", text)
    text = re.sub("is not told apart from|is worse than", "is no better than", text)
    return " ".join(re.sub(names, "NAME", text).split())


def matches(shown, said, names):
    "Whether an output is as shown."
    pattern = ".*".join(re.escape(shape(part, names)) for part in re.split(r"\s*\.\.\.\s*", shown))
    return re.fullmatch(pattern.replace(".*", r"\s*.*\s*"), shape(said, names), re.S)


def test_outputs_are_compared():
    names = r"\b(UP|DOWN)\b"
    assert matches("direction UP 0.61\n", "direction   DOWN 0.5", names)
    assert matches("66 bars, ... end", "66 bars, and more to the end", names)
    assert not matches("66 bars", "65 bars", names)
    assert not matches("direction UP 0.61", "side UP 0.61", names)
    assert not matches("direction UP 0.61", "direction UP", names)
    assert not matches("one ... end", "one, and no more", names)


@each
def test_every_fence_is_a_block(path):
    found = blocks(texts[path])
    fences = re.findall(r"^```", texts[path], re.M)
    assert len(fences) == 2*len(found) + 2*sum(b.printed is not None for b in found)
    for b in found: assert b.language in ("sh", "console", "python", "text"), b.text


# What is run

@pytest.fixture(scope="module")
def place(run, tmp_path_factory):
    "A folder with the demonstration's run and what comes with the project."
    here = tmp_path_factory.mktemp("project")
    shutil.copytree(run[0]/"runs/demo", here/"runs/demo")
    for name in ("data", "configs", "nbs", "benchmarks"): (here/name).symlink_to(root/name)
    return here


@pytest.fixture(scope="module")
def names_only(tmp_path_factory):
    "A folder for commands that are only parsed: empty files by the names that the documents use."
    here = tmp_path_factory.mktemp("names")
    for name in ("data", "configs", "nbs"): (here/name).symlink_to(root/name)
    (here/"joined").mkdir()
    files = [f"{folder}{pair}.csv.gz" for folder in ("", "joined/") for pair in ("AUDUSD", "EURJPY", "GBPUSD")]
    for name in (*files, "cert.pem", "key.pem", "live.jsonl"): (here/name).touch()
    return here


class Server(ForkedServer):
    "`natron serve` with page and bridge, on free ports in place of 8000 and 9000."
    def __init__(self, here):
        super().__init__("serve", "--model", "demo", "--port", 0, "--bridge-port", 0, servers=2, cwd=here)
        self.ports = dict(zip(("8000", "9000"), (url.rpartition(":")[2] for url in self.urls)))

    def shown(self):
        "What it printed, with the usual ports."
        said = self.said()
        for shown, real in self.ports.items(): said = said.replace(f":{real}", f":{shown}")
        return said

    def at(self, text):
        "The text with the ports that the server has."
        text = text.replace("BridgeClient(", f"BridgeClient(port={self.ports['9000']}, ")
        return re.sub(r"(localhost|127\.0\.0\.1):(8000|9000)", lambda m: f"{m[1]}:{self.ports[m[2]]}", text)


@pytest.fixture(scope="module")
def server(place):
    with Server(place) as s: yield s


def words(line): return shlex.split(line, comments=True)


@contextlib.contextmanager
def noted():
    "Commands that note what they are asked, and do nothing."
    asked, kept = [], [c.callback for c in app.registered_commands]
    for c in app.registered_commands: c.callback = functools.wraps(c.callback)(lambda **options: asked.append(options))
    try: yield asked
    finally:
        for c, callback in zip(app.registered_commands, kept): c.callback = callback


def parse(line, here):
    "The options and settings of a `natron` command exist, and the target of `make`."
    args = words(line)
    while "=" in args[0]: args = args[1:]                      # of the environment
    if args[0] == "make": subprocess.run(["make", "--dry-run", *args[1:]], cwd=root, capture_output=True, check=True)
    if args[0] == "python": assert (root/args[1]).exists(), line
    if args[0] != "natron": return
    with noted() as asked: natron(*args[1:], cwd=here)
    for options in asked:
        changes = (s.split("=", 1) for s in options.get("sets") or [])
        load_config(options.get("config"), **{k: yaml.safe_load(v) for k, v in changes})


def execute(line, here, request):
    "What a command prints."
    args = words(line)
    if args[:2] in (["natron", "demo"], ["natron", "serve"]): parse(line, here)
    if args[:2] == ["natron", "demo"]: return request.getfixturevalue("run")[1]
    if args[:2] == ["natron", "serve"]: return request.getfixturevalue("server").shown()
    if args[0] == "natron":
        r = natron(*args[1:], cwd=here, ok=False)
        assert r.returncode < 2 or r.stderr.startswith("natron: "), r.stderr
        return r.stdout or r.stderr
    if "curl" in args:
        if not shutil.which("curl"): pytest.skip("needs curl")
        line = request.getfixturevalue("server").at(line)
    shell = ["bash", "-o", "pipefail", "-c", line]
    return subprocess.run(shell, cwd=here, capture_output=True, text=True, check=True).stdout


def run_python(block, space, here, request):
    "What a block of Python prints."
    code = block.text
    if "BridgeClient(" in code or "localhost" in code: code = request.getfixturevalue("server").at(code)
    out = io.StringIO()
    with contextlib.chdir(here), contextlib.redirect_stdout(out): exec(compile(code, "documentation", "exec"), space)
    return out.getvalue()


@pytest.mark.slow
@each
def test_blocks_do_what_they_show(path, place, names_only, request):
    names, space = picked(json.loads((place/"runs/demo/metrics.json").read_text())), {}
    for block in blocks(texts[path]):
        if block.language == "python":
            said = run_python(block, space, place, request)
            assert matches(block.printed or "", said, names), f"{block.text}\nprints\n{said}"
        if block.language not in ("sh", "console"): continue
        for command, shown in steps(block):
            if block.why:
                parse(command, names_only)
                continue
            said = execute(command, place, request)
            assert shown is None or matches(shown, said, names), f"$ {command}\n{said}"


@pytest.mark.slow
def test_bridge_answers_as_shown(place, server):
    "Every exchange of docs/bridge.md, in its order, on one connection."
    names = picked(json.loads((place/"runs/demo/metrics.json").read_text()))
    rows = [dict(time=t.isoformat(), **r) for t, r in sample_candles().iloc[-512:].iterrows()]
    lines = [l for b in blocks(texts[root/"docs/bridge.md"]) if b.language == "text" for l in b.text.splitlines()]
    asked, answers = [l[2:] for l in lines if l[0] == ">"], [l[2:] for l in lines if l[0] == "<"]
    assert len(asked) == len(answers) > 6
    bridge = "127.0.0.1", int(server.ports["9000"])
    with socket.create_connection(bridge, timeout=PATIENCE) as s, s.makefile("rb") as received:
        for line, shown in zip(asked, answers):
            series = json.dumps(rows if '"predict"' in line else rows[:-1])
            line = line.replace("[...]", series).replace("{...}", json.dumps(rows[-1])).replace("7200", "0")
            s.sendall(line.encode() + b"\n")
            said = json.dumps(json.loads(received.readline()))
            assert matches(shown, said, names), f"{shown}\n{said}"


# What is named

@each
def test_links_lead_somewhere(path):
    for target, _, part in re.findall(r"\]\(([^)#\s]*)(#([^)]+))?\)", texts[path]):
        if "://" in target: continue
        there = (path.parent/target).resolve() if target else path
        assert there.exists(), f"{path.name}: {target}"
        heads = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M) if part else []
        anchors = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads]
        assert not part or part in anchors, f"{path.name}: {target}#{part}"


def spans(text):
    "Inline code outside of fenced blocks."
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


@each
def test_files_exist(path):
    for name in re.findall(r"\b(?:benchmarks|configs|data|tests|tools)/[\w.]+\.\w+", " ".join(spans(texts[path]))):
        assert (root/name).exists(), f"{path.name}: {name}"


@each
def test_settings_exist(path):
    names = setting_names()
    groups = {n.split(".")[0] for n in names if "." in n}
    for span in spans(texts[path]):
        for name in re.findall(rf"(?<![\w./])(?:{'|'.join(groups)})\.(?:\w+)", span):
            if not name.endswith(("yaml", "md", "ipynb")): assert name in names, f"{path.name}: {name}"


def options():
    "Every option of every command."
    told = "".join(natron(name, "--help", cwd=root).stdout for name in commands)
    return set(re.findall(r"--[a-z][a-z-]*", told))


def test_commands_and_options_exist():
    known, elsewhere = options(), {"--data-binary", "--backend-store-uri"}          # of curl and mlflow
    for path, text in texts.items():
        for span in spans(text):
            named = re.findall(r"^natron ([a-z]\S*)", span)
            given = re.findall(r"(?<!\S)--[a-z][a-z-]*", span)
            assert set(named) <= set(commands), f"{path.name}: {span}"
            assert set(given) <= known | elsewhere, f"{path.name}: {span}"


def test_readme_is_short_and_has_every_command():
    readme = texts[root/"README.md"]
    assert len(readme.splitlines()) <= 150
    assert {c for c in commands if f"`natron {c}`" in readme} == set(commands)


def test_readme_is_the_index_notebook():
    assert subprocess.run([sys.executable, "tools/readme.py", "--check"], cwd=root).returncode == 0, "run `make readme`"


def section(name):
    "The part of reference.md under a heading."
    return re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", texts[root/"docs/reference.md"], re.M | re.S)[1]


def cells(text): return re.findall(r"^\| `([^|]+)` \|", text, re.M)


def test_functions_exist():
    "What inline code calls by its bare name is exported by a module."
    known = set.union(*(public(p.stem) for p in (root/"natron").glob("[a-z]*.py")))
    elsewhere = {"TimeTradeServer", "TimeGMT"}                                       # of MetaTrader
    for path, text in texts.items():
        for span in spans(text):
            called = set(re.findall(r"(?<![\w.])([A-Za-z_]\w*)\(", span))
            assert called <= known | elsewhere, f"{path.name}: {span}"


def test_tabs_of_the_page_are_as_listed():
    from natron.app import TABS                            # slow to load
    listed = re.findall(r"^\| ([A-Z][\w() ]+) \|", texts[root/"docs/page.md"], re.M)
    assert listed == [tab.label for tab in TABS.values()]


def test_extras_are_as_listed():
    settings = ConfigParser(delimiters=["="])
    settings.read(root/"settings.ini", encoding="utf-8")
    groups = {name.removesuffix("_requirements") for name in settings["DEFAULT"] if name.endswith("_requirements")}
    assert set(cells(section("Installation"))) == groups | {"all"}


def reach(value, keys):
    "The values at a dotted name, in which a word in capitals stands for any key."
    if not keys: return [value]
    return [v for k in (value if keys[0].isupper() else [keys[0]]) if k in value for v in reach(value[k], keys[1:])]


@pytest.mark.slow
def test_run_folder_and_metrics_are_as_listed(place, run):
    metrics = json.loads((place/"runs/demo/metrics.json").read_text())
    for name in cells(section("metrics.json")): assert reach(metrics, name.split(".")), name
    listed = set(cells(section("Run folder")))
    assert listed == set(os.listdir(place/"runs/demo"))
    for name in re.findall(r"runs/\w+\.jsonl", " ".join(texts.values())): assert (run[0]/name).exists(), name


@pytest.mark.slow
def test_baselines_are_as_listed(place):
    scores = json.loads((place/"runs/demo/metrics.json").read_text())["scores"]["scores"]
    listed = {name for name in cells(texts[root/"docs/evaluate.md"]) if name.isidentifier()}
    assert listed == {b for s in scores.values() for b in s} - {"model"} | {"lightgbm"}


@pytest.mark.slow
def test_rest_errors_are_as_listed(server):
    listed = set(re.findall(r"\b[45]\d\d\b", " ".join(re.findall(r"^\| (\d.*?) \|", section("REST errors"), re.M))))
    with urllib.request.urlopen(server.at("http://localhost:8000/openapi.json")) as r: routes = json.load(r)["paths"]
    answered = {code for route in routes.values() for way in route.values() for code in way["responses"]}
    assert answered - {"200"} <= listed, answered - listed


def public(module):
    "The names that a module exports."
    tree = ast.parse((root/f"natron/{module}.py").read_text(encoding="utf-8"))
    return set(ast.literal_eval([n.value for n in tree.body if ast.unparse(n).startswith("__all__ =")][-1]))


def test_map_of_notebooks():
    "Every notebook that is exported has a row, in order, with its module and three to five of its names."
    row = r"^\| \[(\w+)\]\(\.\./nbs/\1\.ipynb\) \| `natron\.(\w+)` \| (.+?) \| (.+?) \|$"
    rows = re.findall(row, texts[root/"docs/reference.md"], re.M)
    sources = {p.stem: p.read_text(encoding="utf-8") for p in sorted((root/"nbs").glob("[0-9]*.ipynb"))}
    modules = {name: m[1] for name, text in sources.items() if (m := re.search(r"default_exp (\w+)", text))}
    assert [(name, module) for name, module, *_ in rows] == list(modules.items())
    for name, module, _, listed in rows:
        given, there = re.findall(r"`(\w+)`", listed), public(module)
        assert set(given) <= there, f"{name}: {set(given) - there}"
        assert min(3, sum(not n.isupper() for n in there)) <= len(given) <= 5, name
