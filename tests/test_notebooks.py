"Every notebook runs from top to bottom in a process of its own, within its time."
import os, subprocess, sys
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent
notebooks = sorted((root/"nbs").glob("*.ipynb"))


def run(path, flags=""):
    env = os.environ | {"PLOTLY_RENDERER": "json", "OMP_NUM_THREADS": "1"}
    r = subprocess.run([str(Path(sys.executable).parent/"nbdev_test"), "--path", str(path), "--flags", flags],
                       cwd=root, capture_output=True, text=True, timeout=600, env=env)
    assert r.returncode == 0, f"{path.name}\n{r.stdout[-2000:]}\n{r.stderr[-6000:]}"


@pytest.mark.parametrize("path", notebooks, ids=lambda p: p.stem)
def test_notebook(path): run(path, "slow")
