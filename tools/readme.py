"""README.md from nbs/index.ipynb: `python tools/readme.py`, or with --check, exit code 1 if they disagree."""
import re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).resolve().parent.parent


def readme():
    "The index notebook as Markdown: directives and hidden cells gone, links and pictures from the top of the project."
    nb = nbformat.read(root/"nbs"/"index.ipynb", 4)
    hidden = [c for c in nb.cells if c.source.startswith("#| hide\n") or c.source.strip() == "#| hide"]
    nb.cells = [c for c in nb.cells if c not in hidden]
    for c in nb.cells: c.source = "\n".join(l for l in c.source.splitlines() if not l.startswith("#|"))
    text, _ = MarkdownExporter().from_notebook_node(nb)
    text = re.sub(r"\]\((?=(images|[\w/-]+\.ipynb))", "](nbs/", text)
    return text.replace("](../", "](").strip() + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv: sys.exit(readme() != (root/"README.md").read_text(encoding="utf-8"))
    (root/"README.md").write_text(readme(), encoding="utf-8")
