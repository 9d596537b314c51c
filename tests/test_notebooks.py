"Every notebook runs from top to bottom in a process of its own, within its time."
import json, re
from importlib.util import find_spec
from pathlib import Path
import pytest, torch
from forked import forked, run_cells

root = Path(__file__).resolve().parent.parent
flags = ["slow", "gpu"] if torch.cuda.is_available() else ["slow"]
notebooks = sorted((root/"nbs").glob("*.ipynb"))
tutorials = sorted((root/"nbs/tutorials").glob("*.ipynb"))


@pytest.fixture
def run(tmp_path):
    def run(path):
        r = forked(run_cells, path, flags, folder=tmp_path)
        assert r.returncode == 0, f"{path.name}\n{r.stdout[-2000:]}\n{r.stderr[-6000:]}"
    return run


@pytest.mark.slow
@pytest.mark.parametrize("path", tutorials, ids=lambda p: p.stem)
def test_tutorial(path, run):
    "A tutorial may need packages that Natron does not; where one is missing it is skipped. The longest come first."
    code = ["".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
            if c["cell_type"] == "code"]
    missing = {m for m in re.findall(r"^(?:from|import) (\w+)", "\n".join(code), re.M) if not find_spec(m)}
    if missing: pytest.skip(f"needs {', '.join(sorted(missing))}")
    run(path)


@pytest.mark.parametrize("path", notebooks, ids=lambda p: p.stem)
def test_notebook(path, run): run(path)
