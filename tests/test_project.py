"The project as a whole: what is exported, what is written, what imports what."
import ast, importlib, inspect, json, operator, re, runpy, subprocess, sys
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path
import pytest, yaml
from packaging.requirements import Requirement

root = Path(__file__).resolve().parent.parent
notebooks = sorted((root/"nbs").glob("[0-9]*.ipynb"))
cells = {p: json.loads(p.read_text(encoding="utf-8"))["cells"] for p in notebooks}


def source(cell): return "".join(cell["source"])
def module(p): return next(m[1] for c in cells[p] if (m := re.search(r"^#\|\s*default_exp\s+(\S+)", source(c), re.M)))


def test_settings_page_is_made_from_the_settings():
    assert subprocess.run([sys.executable, "tools/settings.py", "--check"],
                          cwd=root).returncode == 0, "run `make readme`"


# Private names that have no public counterpart: package, module, and the name in it.
PRIVATE_NAMES = [
    ("accelerate", "accelerate.state", "AcceleratorState._reset_state"),
    ("numba", "numba.core.dispatcher", "Dispatcher.get_call_template"),
    ("limits", "limits.storage.memory", "MemoryStorage._MemoryStorage__schedule_expiry"),
    ("limits", "limits.storage.memory", "MemoryStorage._MemoryStorage__expire_events"),
    ("uvicorn", "uvicorn.protocols.http.httptools_impl", "HttpToolsProtocol._start_asgi_task"),
    ("uvicorn", "uvicorn.protocols.http.httptools_impl", "HttpToolsProtocol.send_400_response"),
    ("uvicorn", "uvicorn.protocols.http.httptools_impl", "HttpToolsProtocol.timeout_keep_alive_handler"),
    ("uvicorn", "uvicorn.server", "Server.capture_signals"),
    ("uvicorn", "uvicorn.server", "Server.startup"),
    ("fastapi", "fastapi.routing", "APIRoute.get_route_handler"),
    ("ray", "ray.serve._private.replica", "add_port_to_grpc_server"),
    ("gradio", "gradio.queueing", "Queue.push"),
    ("gradio", "gradio.queueing", "Queue.close"),
]
# Undocumented attributes of instances: package, module whose source must name them, and the names.
ATTRIBUTES = [
    ("uvicorn", "uvicorn.protocols.http.httptools_impl",
     "pipeline cycle connections client response_started response_complete disconnected"),
    ("uvicorn", "uvicorn.server", "servers server_state lifespan"),
    ("fastapi", "fastapi.routing", "dependant openapi_extra"),
    ("limits", "limits.storage.memory", "events"),
    ("gradio", "gradio.blocks", "_queue"),
    ("gradio", "gradio.queueing", "event_queue_per_concurrency_id sleep_when_free"),
]


def test_private_names_of_libraries():
    "Each is there; where a new version of a package has dropped one, this says which."
    gone = []
    for package, module, name in PRIVATE_NAMES:
        try: operator.attrgetter(name)(importlib.import_module(module))
        except (ImportError, AttributeError):
            gone.append(f"{package} {metadata.version(package)} has no {module}.{name}")
    for package, module, names in ATTRIBUTES:
        text = inspect.getsource(importlib.import_module(module))
        lost = [n for n in names.split() if not re.search(rf"\w\.{n}\b", text)]
        if lost: gone.append(f"{package} {metadata.version(package)} has no {', '.join(lost)} in {module}")
    assert not gone, "; ".join(gone)


def asked_names(tree):
    "What a module's code compares with a text, or asks `isinstance` of."
    for node in ast.walk(tree):
        if isinstance(node, (ast.Compare, ast.MatchValue)):
            yield from (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            yield from (getattr(n, "id", getattr(n, "attr", None)) for n in ast.walk(node.args[1]))


def test_nobody_asks_for_a_backbone_by_name():
    """A backbone has abilities: only the settings and its own notebook ask for its name,
    and what draws its graph registers it by its class."""
    from natron.backbones import BACKBONES
    names = {*BACKBONES, *(c.__name__ for c in BACKBONES.values())}
    assert {"hybrid", "Hybrid"} <= names & set(asked_names(ast.parse("isinstance(b, (A, Hybrid)) or b in ('hybrid', 'x')")))
    for p in (root/"natron").glob("*.py"):
        if p.stem in {"config", "backbones"}: continue
        assert not names & set(asked_names(ast.parse(p.read_text(encoding="utf-8")))), p.name


def test_imports_point_downwards():
    "A notebook imports only from the ones before it, in its tests too."
    number = {module(p): k for k, p in enumerate(notebooks)}
    for k, p in enumerate(notebooks):
        for c in cells[p]:
            if c["cell_type"] != "code": continue
            for line in re.findall(r"^\s*(?:from|import) (.*natron.*)", source(c), re.M):
                for m in re.findall(r"natron\.(\w+)", line):
                    assert number[m] < k or m == module(p), f"{p.name} imports {m}, which stands later"


def test_serving_loads_what_it_needs():
    "A server has neither plots nor what trains, explains or scans: it starts sooner and takes less memory."
    heavy = ("plotly sklearn lightgbm accelerate captum papermill gradio ipywidgets gymnasium stable_baselines3 "
             "natron.charts natron.indicators").split()
    code = f"import sys, natron.rest, natron.bridge; print(*(m for m in {heavy} if m in sys.modules))"
    r = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert (r.returncode, r.stdout) == (0, "\n"), r.stdout + r.stderr


def test_every_module_has_its_notebook():
    modules = {p.stem for p in (root/"natron").glob("*.py")} - {"__init__", "_modidx"}
    assert modules == {module(p) for p in notebooks} | ({"all"} if (root/"natron/all.py").exists() else set())


def test_outputs_are_small_and_name_no_machine():
    for p in (root/"nbs").rglob("*.ipynb"):
        text = json.dumps([c.get("outputs", []) for c in json.loads(p.read_text(encoding="utf-8"))["cells"]])
        assert len(text) <= 300_000, f"{p.name}: {len(text)//1000} kB of outputs"
        assert not re.search(r"/(root|home/\w+|work|tmp)/\w", text), f"{p.name}: an output shows a machine's path"


def test_site_lists_files_that_exist():
    "Every path in _quarto.yml is there, every notebook is listed, and the linter accepts the file."
    site = yaml.safe_load((root/"_quarto.yml").read_text())
    def paths(o):
        if isinstance(o, dict): return [q for v in o.values() for q in paths(v)]
        if isinstance(o, list): return [q for v in o for q in paths(v)]
        return [o] if isinstance(o, str) and o.endswith((".ipynb", ".md", ".css", ".scss")) else []
    for q in paths(site): assert list(root.glob(q)), f"_quarto.yml lists {q}"
    listed = set(paths(site["website"]))
    assert {f"nbs/{p.name}" for p in notebooks} <= listed
    lint = subprocess.run([sys.executable, "-m", "yamllint", "-d",
                           "{extends: relaxed, rules: {line-length: disable}}", "_quarto.yml", "configs"],
                          cwd=root, capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout


def test_benchmarks_import_what_exists():
    "Most of them are run by no other test."
    gone = []
    for path in sorted((root/"benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("natron.")): continue
            module = importlib.import_module(node.module)
            gone += [f"{path.name}: {node.module}.{a.name}" for a in node.names if not hasattr(module, a.name)]
    assert gone == []


def test_configurations_load():
    from natron.config import load_config
    from natron.sweep import load_sweep
    for p in (root/"configs").glob("*.yaml"): (load_sweep if p.stem == "sweep" else load_config)(p)


def test_constraints_pin_what_is_required():
    cfg = ConfigParser(delimiters=["="])
    cfg.read(root/"settings.ini")
    norm = lambda s: re.split(r"[=<>\[;]", s)[0].lower().replace("_", "-")
    pinned = {norm(l) for l in (root/"constraints.txt").read_text().splitlines() if "==" in l}
    groups = [cfg["DEFAULT"][k] for k in cfg["DEFAULT"] if k.endswith("requirements")]
    for r in " ".join(groups).split(): assert norm(r) in pinned, f"{r} is not pinned"
    assert "torch==2.13.0\n" in (root/"constraints.txt").read_text()


BROUGHT_ALONG = {"starlette"}                          # by fastapi


def base_libraries():
    "Names to import of what `pip install natron` brings, and of what that needs in turn."
    cfg = ConfigParser(delimiters=["="])
    cfg.read(root/"settings.ini")
    canonical = lambda name: re.sub(r"[-_.]+", "-", name).lower()
    found, todo = set(), [Requirement(r) for r in cfg["DEFAULT"]["requirements"].split()]
    while todo:
        r = todo.pop()
        if canonical(r.name) in found or not (r.marker is None or r.marker.evaluate({"extra": ""})): continue
        found.add(canonical(r.name))
        todo += map(Requirement, metadata.requires(r.name) or ())
    return {module for module, names in metadata.packages_distributions().items()
            if found & {canonical(n) for n in names}}


# What functions import that others have asked for: the command that calls them, or whoever made the exchange.
ASKED_BEFORE = {"cli": {"nbclient", "papermill", "traitlets"}, "importers": {"ccxt", "yfinance"},
                "train": {"mlflow", "wandb"}}


def imported(node):
    "Top-level names of the packages that a statement imports."
    if isinstance(node, ast.Import): return {a.name.partition(".")[0] for a in node.names}
    return {node.module.partition(".")[0]} if isinstance(node, ast.ImportFrom) and not node.level else set()


def asked(node):
    "Packages that a statement asks for by `need`."
    call = node.value if isinstance(node, ast.Expr) else None
    named = isinstance(call, ast.Call) and getattr(call.func, "id", "") == "need"
    return {a.value for a in call.args[1:] if isinstance(a, ast.Constant)} if named else set()


def test_modules_ask_for_the_extras_they_import():
    "What the base requirements do not bring is asked for by `need`, before the module or its function imports it."
    there = base_libraries() | set(sys.stdlib_module_names) | {"natron"} | BROUGHT_ALONG
    for path in sorted((root/"natron").glob("*.py")):
        body, known = ast.parse(path.read_text()).body, set(there)
        functions = [f for node in body for f in ast.walk(node) if isinstance(f, ast.FunctionDef)]
        for node in body:
            known |= asked(node)
            assert imported(node) <= known, f"{path.name}: need(EXTRA, ...) in a cell before {imported(node) - known}"
        for f in functions:
            inside = known.union(ASKED_BEFORE.get(path.stem, set()), *map(asked, f.body))
            missing = set().union(*map(imported, ast.walk(f))) - inside
            assert not missing, f"{path.name}, {f.name}: need(EXTRA, ...) before {missing}"


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    "Runs Python code where only the base requirements are installed: every other library is hidden."
    others = (set(metadata.packages_distributions()) - base_libraries()
              - {"natron", "setuptools", "pip", "_distutils_hack"})
    assert {"fastapi", "gradio", "plotly", "sklearn", "lightgbm", "papermill", "accelerate", "ipywidgets"} <= others
    hide = f"""import sys, importlib.machinery as m
finder, hidden = m.PathFinder.find_spec, {others!r}
m.PathFinder.find_spec = lambda name, *a: None if name.partition(".")[0] in hidden else finder(name, *a)
"""
    def run(code):
        return subprocess.run([sys.executable, "-c", hide + code], cwd=tmp_path_factory.mktemp("bare"),
                              capture_output=True, text=True)
    return run


def natron_there(bare, *commands):
    "What became of each command, one after the other in one process: exit code, output, errors."
    r = bare(f"""import contextlib, io, json
from natron.cli import main
for args in {[[str(a) for a in c] for c in commands]!r}:
    sys.argv, out, err, code = ["natron", *args], io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: main()
        except SystemExit as e: code = e.code or 0
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
""")
    assert r.returncode == 0, r.stderr
    return [json.loads(line) for line in r.stdout.splitlines()]


@pytest.mark.slow
def test_base_requirements_compute_read_audit_and_predict(bare, toy_model):
    sample = root/"data/eurusd_h1_2017.csv.gz"
    audit = ["audit", "natron.features:compute_features", "--candles", sample, "--cuts", "3", "--check", "truncation"]
    commands = [["info", "--model", toy_model], ["check", "--candles", sample],
                ["predict", "--model", toy_model, "--candles", sample], audit]
    for command, (code, _, err) in zip(commands, natron_there(bare, *commands)): assert code == 0, (command, err)


def lacks(package, extra): return f'{package} is not installed; install it with: pip install "natron[{extra}]"'


def test_commands_name_the_extra_that_they_lack(bare):
    sample, model = root/"data/eurusd_h1_2017.csv.gz", root/"settings.ini"                       # no model is opened
    missing = {("train", "--name", "x", "--candles", sample): ("accelerate", "train"),
               ("demo",): ("accelerate", "train"),
               ("evaluate", "--candles", sample, "--model", model): ("plotly", "train"),
               ("serve", "--port", "0", "--model", model): ("limits", "serve"),
               ("bridge", "--port", "0", "--model", model): ("limits", "serve"),
               ("ingest", "--from", "ccxt:binance", "--symbol", "BTC/USDT", "--timeframe", "1h"): ("ccxt", "markets")}
    told = natron_there(bare, *missing)
    assert len(told) == len(missing)
    for (code, out, err), (command, names) in zip(told, missing.items()):
        said = [line for line in err.splitlines() if not line.startswith("model: ")]
        assert (code, out, said) == (2, "", [f"natron: {lacks(*names)}"]), command


def test_modules_name_the_extra_that_they_lack(bare):
    missing = dict(charts=("plotly", "lab"), explore=("ipywidgets", "lab"), train=("accelerate", "train"),
                   calibrate=("sklearn", "train"), baselines=("lightgbm", "train"), rest=("anyio", "serve"),
                   app=("fastapi", "app"), all=("accelerate", "all"))
    r = bare(f"""import importlib
for module in {[*missing]!r}:
    try: importlib.import_module("natron." + module)
    except ImportError as e: print(f"{{type(e).__qualname__}}: {{e}}")
""")
    assert r.stdout.splitlines() == [f"ExtraError: {lacks(*names)}" for names in missing.values()], r.stderr


def test_uv_looks_where_pip_does():
    install = runpy.run_path(str(root/"tools/install.py"))
    settings = install["pip_settings"](":env:.cert='/b.pem'\nglobal.cert='/a.pem'\nglobal.find-links='/w /v'\n"
                                       "global.extra-index-url='https://a https://b'\ninstall.no-index='true'\n")
    assert settings == {"cert": "/b.pem", "find-links": "/w /v", "extra-index-url": "https://a https://b",
                        "no-index": "true"}
    told = {"SSL_CERT_FILE": "/b.pem", "UV_FIND_LINKS": "/w,/v", "UV_EXTRA_INDEX_URL": "https://a https://b",
            "UV_INDEX_STRATEGY": "unsafe-best-match"}
    assert install["uv_environment"](settings, {}) == told
    assert install["uv_environment"](settings, {"UV_FIND_LINKS": "/mine"}) == told | {"UV_FIND_LINKS": "/mine"}


@pytest.mark.slow
def test_wheel_carries_what_the_commands_need(tmp_path):
    "A plain `pip install .` has the sample candles, the configurations and the run notebook inside the package."
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "build", "--wheel", "--no-build-isolation", "--out-dir", tmp_path, root], check=True)
    import zipfile
    names = zipfile.ZipFile(next(tmp_path.glob("natron-*.whl"))).namelist()
    for n in ("natron/data/eurusd_h1_2017.csv.gz", "natron/data/gbpusd_h1_2021.csv.gz", "natron/data/README.md",
              "natron/configs/demo.yaml", "natron/nbs/runs/train.ipynb", "natron/cli.py"):
        assert n in names
    meta = zipfile.ZipFile(next(tmp_path.glob("natron-*.whl"))).read(
        next(n for n in names if n.endswith("METADATA"))).decode()
    assert re.search(r"Requires-Python: (>=3\.11,<3\.15|<3\.15,>=3\.11)", meta)

    python = installed(next(tmp_path.glob("natron-*.whl")), tmp_path/"venv")
    away = tmp_path/"away"
    away.mkdir()
    def natron(*args):
        return subprocess.run([python.parent/"natron", *map(str, args)], cwd=away, capture_output=True, text=True)

    where = subprocess.run([python, "-c", "import natron; print(natron.__file__)"], cwd=away,
                           capture_output=True, text=True).stdout
    assert where.startswith(str(tmp_path/"venv")), where
    costs = json.loads(natron("info", "--config", "configs/demo.yaml", "--json").stdout)
    assert costs["configs/demo.yaml"]["backbone"] == "transformer"
    r = natron("train", "--name", "x", "--config", "configs/dmo.yaml", "--candles", root/"data/eurusd_h1_2017.csv.gz")
    assert (r.returncode, r.stderr) == (2, "natron: no configuration file at configs/dmo.yaml; "
                                        "Natron brings cpu, demo, full, hybrid, natron, ready, rl, temporal\n")


def installed(wheel, folder):
    "The Python of a new environment with this wheel; the libraries come from the present one."
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "pip", "install", "--python", folder/"bin/python", "--no-deps", "--no-index", wheel],
                   check=True)
    here, there = (Path(subprocess.run([p, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                                       capture_output=True, text=True).stdout.strip())
                   for p in (sys.executable, folder/"bin/python"))
    (there/"libraries.pth").write_text(f"{here}\n")
    return folder/"bin/python"
