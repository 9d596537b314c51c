"One thread a process, as two workers share the cores; one toy model for all; the longest tests first."
import os
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PLOTLY_RENDERER"] = "json"
os.environ.pop("NATRON_TOKEN", None)
import pytest
from filelock import FileLock
from served import save_toy


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory):
    "A small model file, made by the first worker that needs it."
    base = tmp_path_factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)/"toy/natron_v2.pt"
    path.parent.mkdir(exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists(): save_toy(path)
    return path
