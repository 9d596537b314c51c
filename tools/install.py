"""Install Natron into the environment of this Python: `python tools/install.py [--copy] [EXTRA ...]`.

Editable, or with --copy so that this folder is no longer needed. By uv, which takes a tenth of pip's time,
and by pip where uv cannot be had or fails. uv reads no settings of pip, so it is told them.
"""
import argparse, ast, os, re, subprocess, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip"]
UV_NAMES = {"index-url": "UV_INDEX_URL", "extra-index-url": "UV_EXTRA_INDEX_URL", "find-links": "UV_FIND_LINKS",
            "trusted-host": "UV_INSECURE_HOST", "cert": "SSL_CERT_FILE"}


def pip_settings(text):
    """What `pip config list` prints, by name:
    a variable goes before what is for `install`, and that before what is global."""
    rank = {"global": 0, "install": 1, ":env:": 2}
    found = [(rank[s], name, ast.literal_eval(v))
             for s, name, v in re.findall(r"^(global|install|:env:)\.([\w-]+)=(.+)$", text, re.M)]
    return {name: value for _, name, value in sorted(found)}


def uv_environment(settings, environ):
    "The environment in which uv looks where pip would; what is set for uv already stays."
    told = {UV_NAMES[k]: v for k, v in settings.items() if k in UV_NAMES}
    if "UV_FIND_LINKS" in told: told["UV_FIND_LINKS"] = ",".join(told["UV_FIND_LINKS"].split())
    if "UV_EXTRA_INDEX_URL" in told: told["UV_INDEX_STRATEGY"] = "unsafe-best-match"        # pip's: every index counts
    return told | environ


def uv_pip(what, environ=os.environ):
    "Whether `uv pip`, run by this Python, did as told."
    settings = pip_settings(subprocess.run([*PIP, "config", "list"], capture_output=True, text=True).stdout)
    more = ["--no-index"] if settings.get("no-index", "").lower() in ("1", "true", "yes", "on") else []
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet"]
    return not subprocess.run([*uv, *more, *what], env=uv_environment(settings, dict(environ))).returncode


def by_uv(what):
    "Whether uv, which is installed first, installed it into the environment of this Python."
    pin = re.search(r"^uv==.+$", (root/"constraints.txt").read_text(), re.M)[0]
    if subprocess.run([*PIP, "install", "--quiet", pin]).returncode: return False
    return uv_pip(["--python", sys.executable, *what])


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("extras", nargs="*", metavar="EXTRA", help="such as app, all or dev; docs/reference.md has the list")
    p.add_argument("--copy", action="store_true", help="so that this folder is no longer needed")
    a = p.parse_args()
    source = f"{root}[{','.join(a.extras)}]" if a.extras else str(root)
    what = ["--constraint", str(root/"constraints.txt"), *([] if a.copy else ["--editable"]), source]
    if not by_uv(what):
        print("uv is not to be had here, or failed; pip does the same more slowly", file=sys.stderr)
        sys.exit(subprocess.run([*PIP, "install", "--quiet", *what]).returncode)
