"Processes forked from one that has everything loaded: loading it takes longer than most notebooks do."
import contextlib, importlib, multiprocessing, os, re, sys
from inspect import getsource
from pathlib import Path
from types import SimpleNamespace

root = Path(__file__).resolve().parent.parent
# Seconds after which something is stuck. Nothing is proved by how fast a test is: other programs may have the cores.
PATIENCE = 600


def _forked(function, args, folder):
    "In the new process: call it, with what it prints in files."
    assert "tests.loaded" in sys.modules                 # the server of forks goes on without what it cannot import
    for fd, name in ((1, "stdout"), (2, "stderr")):
        with open(Path(folder)/name, "wb") as f: os.dup2(f.fileno(), fd)
    function(*args)


def started(function, *args, folder):
    "A forked process that calls a function; what it prints goes to files."
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["tests.loaded"])
    p = forks.Process(target=_forked, args=(function, args, folder))
    with contextlib.chdir(root): p.start()             # where the server of forks, which the first one starts, finds it
    return p


def forked(function, *args, folder):
    "What became of a function in a forked process: the exit code, and what it printed."
    p = started(function, *args, folder=folder)
    p.join(3*PATIENCE)                                   # a whole notebook, on a slow machine with other programs
    if p.is_alive(): p.kill(), p.join()
    out, err = (Path(folder, name).read_text(errors="replace") for name in ("stdout", "stderr"))
    return SimpleNamespace(returncode=p.exitcode, stdout=out, stderr=err)


def load_kernels(path):
    """A kernel that a notebook defines is the one of its exported module, which is compiled already,
    where they are the same, word by word."""
    name = re.search(r"#\| *default_exp (\w+)", path.read_text(encoding="utf-8"))
    if not name or name[1] == "core": return
    import numba
    module, rolling = (importlib.import_module(f"natron.{n}") for n in (name[1], "rolling"))
    tuples = {k: x for k, x in vars(module).items()
              if isinstance(x, type) and issubclass(x, tuple) and x.__module__ == module.__name__}
    compiled = numba.njit
    def njit(*args, **options):
        if not args: return lambda f: njit(f, **options)
        f = args[0]                                        # or a signature, of other libraries
        if getattr(f, "__module__", None) != "__main__": return compiled(*args, **options)
        # A named tuple of the notebook would be another type than the module's,
        # for which every kernel is compiled again.
        f.__globals__.update({k: x for k, x in tuples.items()
                              if getattr(f.__globals__.get(k), "_fields", None) == x._fields})
        there = getattr(module, f.__name__, None)
        return (there if hasattr(there, "py_func") and getsource(there.py_func) == getsource(f)
                else compiled(f, **options))
    numba.njit = rolling.njit = njit


def run_cells(path, flags):
    "Run a notebook's cells as `nbdev_test` does."
    from nbdev.config import get_config
    from nbdev.test import test_nb
    os.chdir(root/"nbs")
    load_kernels(path)
    ok, _ = test_nb(path, get_config().tst_flags.split(), flags, basepath=root)
    sys.exit(not ok)


def run_natron(args, cwd=".", environ=()):
    "The `natron` command."
    os.environ.update(environ)
    os.chdir(cwd)
    sys.argv = ["natron", *map(str, args)]
    from natron.cli import main
    main()
