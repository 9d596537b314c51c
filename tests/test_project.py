"The project as a whole: what is exported, what is written, what imports what."
import ast, importlib, json, operator, re, subprocess, sys
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path
import pytest, yaml

root = Path(__file__).resolve().parent.parent
notebooks = sorted((root/"nbs").glob("[0-9]*.ipynb"))
cells = {p: json.loads(p.read_text(encoding="utf-8"))["cells"] for p in notebooks}


def source(cell): return "".join(cell["source"])
def module(p): return next(m[1] for c in cells[p] if (m := re.search(r"^#\|\s*default_exp\s+(\S+)", source(c), re.M)))


def test_readme_is_the_index_notebook():
    assert subprocess.run([sys.executable, "tools/readme.py", "--check"], cwd=root).returncode == 0, "run `make readme`"


def test_settings_page_is_made_from_the_settings():
    assert subprocess.run([sys.executable, "tools/settings.py", "--check"], cwd=root).returncode == 0, "run `make readme`"


# Private names that have no public counterpart: package, module, and the name in it.
PRIVATE_NAMES = [("accelerate", "accelerate.state", "AcceleratorState._reset_state")]


def test_private_names_of_libraries():
    "Each is there; where a new version of a package has dropped one, this says which."
    gone = []
    for package, module, name in PRIVATE_NAMES:
        try: operator.attrgetter(name)(importlib.import_module(module))
        except (ImportError, AttributeError): gone.append(f"{package} {version(package)} has no {module}.{name}")
    assert not gone, "; ".join(gone)


def test_nobody_asks_for_a_backbone_by_name():
    "A backbone has abilities; only its own notebook and the table of abilities know its name."
    names, own = "transformer|temporal|hybrid", {"config", "backbones"}
    for p in (root/"natron").glob("*.py"):
        if p.stem not in own: assert not re.search(rf"""[=!]= ?["']({names})["']|isinstance\([^)]*(Transformer|Temporal|Hybrid)\)""", p.read_text(encoding="utf-8")), p.name


def test_imports_point_downwards():
    "A notebook imports only from the ones before it, in its tests too."
    number = {module(p): k for k, p in enumerate(notebooks)}
    for k, p in enumerate(notebooks):
        for c in cells[p]:
            if c["cell_type"] != "code": continue
            for m in re.findall(r"^\s*(?:from|import) natron\.(\w+)", source(c), re.M):
                assert number[m] < k or m == module(p), f"{p.name} imports {m}, which stands later"


def test_serving_loads_no_indicators():
    "A server starts with what it needs; the GPU indicators are for whoever scans or trains."
    assert subprocess.run([sys.executable, "-c", "import sys, natron.rest; sys.exit('natron.indicators' in sys.modules)"], cwd=root).returncode == 0


def test_every_module_has_its_notebook():
    modules = {p.stem for p in (root/"natron").glob("*.py")} - {"__init__", "_modidx"}
    assert modules == {module(p) for p in notebooks} | ({"all"} if (root/"natron/all.py").exists() else set())


def test_outputs_are_small_and_name_no_machine():
    for p in [*notebooks, root/"nbs/index.ipynb", *(root/"nbs/tutorials").glob("*.ipynb")]:
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
    lint = subprocess.run([sys.executable, "-m", "yamllint", "-d", "{extends: relaxed, rules: {line-length: disable}}", "_quarto.yml", "configs"],
                          cwd=root, capture_output=True, text=True)
    assert lint.returncode == 0, lint.stdout


def test_configurations_load():
    from natron.config import load_config
    for p in (root/"configs").glob("*.yaml"): load_config(p)


def test_constraints_pin_what_is_required():
    cfg = ConfigParser(delimiters=["="]); cfg.read(root/"settings.ini")
    norm = lambda s: re.split(r"[=<>\[;]", s)[0].lower().replace("_", "-")
    pinned = {norm(l) for l in (root/"constraints.txt").read_text().splitlines() if "==" in l}
    for r in (cfg["DEFAULT"]["requirements"] + " " + cfg["DEFAULT"]["dev_requirements"]).split(): assert norm(r) in pinned, f"{r} is not pinned"
    assert "torch==2.13.0\n" in (root/"constraints.txt").read_text()


@pytest.mark.slow
def test_wheel_carries_what_the_commands_need(tmp_path):
    "A plain `pip install .` has the sample candles, the configurations and the run notebook inside the package."
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(root)], check=True)
    import zipfile
    names = zipfile.ZipFile(next(tmp_path.glob("natron-*.whl"))).namelist()
    for n in ("natron/data/eurusd_h1_2017.csv.gz", "natron/configs/demo.yaml", "natron/nbs/runs/train.ipynb", "natron/cli.py"): assert n in names
    meta = zipfile.ZipFile(next(tmp_path.glob("natron-*.whl"))).read(next(n for n in names if n.endswith("METADATA"))).decode()
    assert re.search(r"Requires-Python: (>=3\.11,<3\.14|<3\.14,>=3\.11)", meta)
    python = installed(next(tmp_path.glob("natron-*.whl")), tmp_path/"venv")
    away = tmp_path/"away"; away.mkdir()
    def natron(*args): return subprocess.run([python.parent/"natron", *map(str, args)], cwd=away, capture_output=True, text=True)
    where = subprocess.run([python, "-c", "import natron; print(natron.__file__)"], cwd=away, capture_output=True, text=True).stdout
    assert where.startswith(str(tmp_path/"venv")), where
    costs = json.loads(natron("info", "--config", "configs/demo.yaml", "--json").stdout)
    assert costs["configs/demo.yaml"]["backbone"] == "transformer"
    r = natron("train", "--name", "x", "--config", "configs/dmo.yaml", "--candles", root/"data/eurusd_h1_2017.csv.gz")
    assert (r.returncode, r.stderr) == (2, "natron: no configuration file at configs/dmo.yaml; Natron brings cpu, demo, full, hybrid, natron, temporal\n")


def installed(wheel, folder):
    "The Python of a new environment with this wheel; the libraries come from the present one."
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    subprocess.run([sys.executable, "-m", "pip", "-q", "--python", folder/"bin/python", "install", "--no-deps", "--no-index", wheel], check=True)
    here, there = (Path(subprocess.run([p, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True).stdout.strip())
                   for p in (sys.executable, folder/"bin/python"))
    (there/"libraries.pth").write_text(f"{here}\n")
    return folder/"bin/python"
