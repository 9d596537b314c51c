"""A release in `dist/`: `python tools/dist.py` builds wheel and source distribution, checks them, and tries the wheel.

It is tried in a new environment of each Python on the PATH that settings.ini allows, with the pinned versions, fetched
anew.
"""
import hashlib, os, shutil, subprocess, sys, tempfile, time, zipfile
from pathlib import Path
from fastcore.foundation import Config
from install import uv_pip

root = Path(__file__).resolve().parent.parent
cfg = Config(root, "settings.ini", delimiters=["="])
oldest, newest = (int(v.split(".")[1]) for v in (cfg.min_python, cfg.max_python))
VERSIONS = [f"3.{m}" for m in range(oldest, newest+1)]
# What the wheel carries, and where from: all of it, and nothing else.
CARRIED = {"natron": "natron/*.py", "natron/data": "data/*.csv.gz data/*.md data/*.pt",
           "natron/configs": "configs/*.yaml", "natron/nbs/runs": "nbs/runs/*.ipynb"}


def run(*command, **kw): return subprocess.run([str(c) for c in command], check=True, **kw)


def commit_time():
    "Seconds since 1970 of the last commit, the time that the files of a release bear; of a copy without git, now."
    r = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=root, capture_output=True, text=True)
    return r.stdout.strip() or str(int(time.time()))


def faults(wheel, source=root):
    "What a wheel lacks, and what it should not have."
    there = {n for n in zipfile.ZipFile(wheel).namelist() if not n.endswith("/")}
    info = {n for n in there if n.split("/")[0].endswith(".dist-info")}
    wanted = {f"{folder}/{p.name}" for folder, globs in CARRIED.items() for g in globs.split() for p in source.glob(g)}
    lost = [*sorted(wanted - there), *["LICENSE"]*(not any(n.endswith("LICENSE") for n in info))]
    return [f"lacks {n}" for n in lost] + [f"should not have {n}" for n in sorted(there - info - wanted)]


def build(out):
    "The wheel, made from the source distribution, and that one."
    env = os.environ | {"SOURCE_DATE_EPOCH": commit_time()}
    run(sys.executable, "-m", "build", "--outdir", out, root, env=env, stdout=subprocess.DEVNULL)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def pythons():
    "The interpreters at hand, by version; a name that stands on the PATH and does not run is none."
    found = {v: shutil.which(f"python{v}") for v in VERSIONS}
    runs = lambda p: p and not subprocess.run([p, "-c", "import venv"], capture_output=True).returncode
    return {v: p for v, p in found.items() if runs(p)}


def smoke(natron, model):
    "The commands to try, by name."
    sample = ["--candles", root/"data/eurusd_h1_2017.csv.gz"]
    last = ["predict", *sample] if model else ["info", "--config", "configs/demo.yaml"]
    return {args[0]: [natron, *args] for args in (["--help"], ["check", *sample], last)}


def tried(python, wheel):
    "What became of a new environment of this Python: installed, and each command; stops at the first that fails."
    with tempfile.TemporaryDirectory(prefix="natron-dist-") as d:
        pinned = ["--python", f"{d}/venv/bin/python", "--constraint", root/"constraints.txt"]
        made = subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", "--python", python, f"{d}/venv"])
        said = {"installed": not made.returncode and uv_pip([*pinned, wheel])}
        model = any(n.endswith(".pt") for n in zipfile.ZipFile(wheel).namelist())
        for name, command in smoke(f"{d}/venv/bin/natron", model).items():
            if not all(said.values()): break
            r = subprocess.run(command, cwd=d, capture_output=True, text=True)
            said[name] = not r.returncode
            if r.returncode: print(f"{python}: natron {name}:\n{r.stdout}{r.stderr}", file=sys.stderr)
    return said


def main():
    out = root/"dist"
    shutil.rmtree(out, ignore_errors=True)
    wheel, source = build(out)
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, source)
    found = faults(wheel)
    for fault in found: print(f"{wheel.name} {fault}")
    for p in (wheel, source):
        print(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  dist/{p.name}  {p.stat().st_size/1e6:.1f} MB", flush=True)
    there = pythons()
    failed = bool(found) or not there
    for v in VERSIONS:
        said = tried(there[v], wheel) if v in there else {}
        told = "  ".join(f"{k} {'ok' if ok else 'FAILED'}" for k, ok in said.items())
        print(f"Python {v}  {told or 'not at hand'}", flush=True)
        failed |= not all(said.values())
    sys.exit(failed)


if __name__ == "__main__": main()
