"""docs/settings.md from the comments of natron/config.py; with --check, exit code 1 if they disagree."""
import inspect, re, sys
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin
from natron.config import Config, Group

page = Path(__file__).resolve().parent.parent/"docs"/"settings.md"
HEAD = """# Settings

Every setting by its dotted name: in a YAML file as `group: {setting: value}` (`--config FILE`), on the command line as
`--set group.setting=value`, in Python as `load_config(**{"group.setting": value})`. A name or a value that does not fit
stops the run with a sentence that names it. This page is made from the comments in
[00a_config](../nbs/00a_config.ipynb) by `make readme`.
"""
SIGNS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "min_length": "at least {} entries",
         "max_length": "at most {} entries"}


def comments(group):
    "What the comments of a group say of each setting; a comment without code in front goes on with the one above."
    found, name = {}, None
    for line in inspect.getsource(group).splitlines():
        m = re.match(r"    (\w+): [^#]*#(.*)", line)
        if m:
            name = m[1]
            found[name] = m[2].strip()
        elif name and (m := re.match(r"\s+[^#]*#(.*)", line)):
            found[name] = f"{found.get(name, '')} {m[1].strip()}".strip()
        elif m := re.match(r"    (\w+): ", line): name = m[1]
        elif not line.strip(): name = None
    return found


def kind(a):
    "A type as a reader says it."
    if a is type(None): return "null"
    if get_origin(a) is Annotated: return kind(get_args(a)[0])
    if get_origin(a) is Literal: return " or ".join(f"`{o}`" for o in get_args(a))
    if get_origin(a) in (list, dict): return f"{get_origin(a).__name__} of {kind(get_args(a)[-1])}"
    return " or ".join(kind(o) for o in get_args(a)) if get_args(a) else a.__name__


def limits(field):
    return ", ".join(sign.format(f"{getattr(m, k):g}" if abs(getattr(m, k)) < 1e6 else getattr(m, k))
                     for m in field.metadata for k, sign in SIGNS.items() if getattr(m, k, None) is not None)


def default(v):
    "A value as YAML has it."
    plain = "null" if v is None else str(v).lower() if isinstance(v, bool) else v
    return f"`{plain}`".replace("'", "")


def table(group, prefix=""):
    "The settings of one group, but for its groups."
    rows, said = ["| setting | default | type | limits | meaning |", "|---|---|---|---|---|"], comments(group)
    for name, f in group.model_fields.items():
        if isinstance(f.annotation, type) and issubclass(f.annotation, Group): continue
        if not said.get(name):
            sys.exit(f"{prefix}{name} has no comment in nbs/00a_config.ipynb that says what it means")
        cells = f"`{prefix}{name}`", default(f.default), kind(f.annotation), limits(f), said[name]
        rows.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(rows)


def settings():
    "The whole page."
    parts = [HEAD, "## For all stages\n", table(Config), ""]
    for name, f in Config.model_fields.items():
        if isinstance(f.annotation, type) and issubclass(f.annotation, Group):
            parts += [f"## {name}\n", f"{f.annotation.__doc__}\n", table(f.annotation, f"{name}."), ""]
    return "\n".join(parts)


if __name__ == "__main__":
    if "--check" in sys.argv: sys.exit(settings() != page.read_text(encoding="utf-8"))
    page.write_text(settings(), encoding="utf-8")
