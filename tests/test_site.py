"""The site: what it holds, how its pages come out, and that its links are found where they lead nowhere.

A few pages are rendered here; `make docs` renders them all, and fails where a link does.
"""
import importlib, json, re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
import pytest, yaml
from smalldocs import config, layout

root = Path(__file__).resolve().parent.parent
spec = spec_from_file_location("natron_site", root/"tools/site.py")
made = module_from_spec(spec)
spec.loader.exec_module(made)
PAGES = ["nbs/index.ipynb", "nbs/00_core.ipynb", "nbs/01a_markets.ipynb", "docs/page.md"]
MODULES = ["natron.core", "natron.rolling"]
pytestmark = pytest.mark.xdist_group("site")


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    "The folder that the renderer reads, with reference pages for two modules."
    folder, modules = tmp_path_factory.mktemp("site")/"_proc", [importlib.import_module(m) for m in MODULES]
    made.stage(folder)
    made.write_config(folder, modules)
    made.reference(folder, modules)
    return folder


@pytest.fixture(scope="module")
def out(staged):
    "The site, with a few of its pages."
    path = staged/"_quarto.yml"
    whole = path.read_text()
    cfg = yaml.safe_load(whole)
    cfg["project"]["render"] = [*PAGES, "api/*"]
    path.write_text(yaml.safe_dump(cfg, sort_keys=False))
    folder, _ = made.render(staged)
    path.write_text(whole)
    return folder


@pytest.fixture(scope="module")
def page(out): return (out/"nbs/01a_markets.html").read_text()


def test_every_page_is_in_the_navigation(staged):
    "A notebook or a page of docs/ or data/ that `_quarto.yml` does not list is nowhere to be found."
    site = made.Site(config.load(staged), quiet=True)
    rendered = {str(p) for p in site.discover()}
    written = {p.relative_to(root).as_posix() for kind in ("nbs/**/*.ipynb", "docs/*.md", "data/*.md")
               for p in root.glob(kind)}
    assert {p for p in written if "checkpoint" not in p} <= rendered
    site.pages = {p: made.site.Page(p, p, {}, {}, "") for p in site.discover()}
    listed = {str(p.src) for item in layout.SiteNav(site).sidebars[0]["items"] for p in item.pages()}
    assert rendered - listed == set(), "add them to the sidebar in _quarto.yml"


def test_pages_are_there_and_so_are_their_copies(out):
    for p in [*PAGES, "api/index.md", "api/core.qmd", "api/rolling.qmd"]:
        assert (out/p).with_suffix(".html").exists(), p
        assert (out/p).with_suffix(".md").exists(), p
    assert not list(out.rglob("*.llms.md"))
    assert "url=nbs/index.html" in (out/"index.html").read_text()


def test_notebooks_come_without_directives_and_with_their_outputs(page):
    assert "#|" not in page
    assert "nbdev_export" not in page
    assert "default_exp" not in page
    assert 'src="data:image/png' in page
    assert "cell-output-stdout" in page


def test_formulae_need_no_script(out, page):
    assert page.count("<math ") > 2
    assert 'display="block"' in page
    assert "katex" not in page
    assert "\\log" in (out/"nbs/01a_markets.md").read_text()


def test_title_and_search(out):
    entries = json.loads((out/"search.json").read_text())
    assert {"core", "markets", "Natron", "natron.core"} <= {e["title"] for e in entries}
    assert "make_rng" in {e["section"] for e in entries}


def test_reference_has_every_public_name(out):
    for name in MODULES:
        text = (out/f"api/{name.removeprefix('natron.')}.html").read_text()
        assert set(importlib.import_module(name).__all__) <= set(re.findall(r'id="(\w+)"', text)), name
    core = (out/"api/core.md").read_text()
    assert "make_rng(seed: int, name: str) -> Generator" in core
    assert "| `name` | str | required | who is asking; another name gives an independent stream |" in core
    assert "[nbs/00_core.ipynb](../nbs/00_core.md)" in core


def test_index_for_language_models(out):
    "The form of llmstxt.org: a title, a summary, sections of links with a note."
    lines = (out/"llms.txt").read_text().splitlines()
    assert lines[0] == "# Natron"
    assert lines[2].startswith("> ")
    assert {"## Documentation", "## Foundations", "## API"} <= set(lines)
    links = [re.fullmatch(r"- \[.+?\]\((.+?\.md)\)(: .+)?", l)[1] for l in lines if l.startswith("- ")]
    assert "nbs/00_core.md" in links
    assert all((out/link).exists() for link in links)
    assert "<!-- nbs/00_core.md -->" in (out/"llms-full.txt").read_text()


def test_nothing_is_fetched_from_elsewhere(out):
    assert [p for p in made.broken(out) if "elsewhere" in p] == []
    assert "fonts.googleapis" not in "".join(p.read_text() for p in out.rglob("*.css"))


def test_wrong_links_are_found(tmp_path):
    (tmp_path/"b").mkdir()
    (tmp_path/"b/index.html").write_text('<h1 id="here">B</h1>')
    right = ('<a href="b/">1</a><a href="b/index.html#here">2</a><a href="https://example.org">3</a>'
             '<img src="data:image/png;base64,">')
    wrong = ('<a href="c.html">4</a><a href="b/index.html#gone">5</a><img src="no.png">'
             '<script src="https://example.org/x.js"></script>')
    (tmp_path/"a.html").write_text(f'{right}{wrong}<a href="#top">6</a>')
    (tmp_path/"a.css").write_text("@import url(https://example.org/x.css); a { background: url(x.png) }")
    assert made.broken(tmp_path) == [
        "a.html: c.html is not there",
        "a.html: b/index.html#gone has no such heading",
        "a.html: no.png is not there",
        "a.html: https://example.org/x.js is fetched from elsewhere",
        "a.html: #top has no such heading",
        "a.css: https://example.org/x.css is fetched from elsewhere"]


def test_links_in_notebooks_lead_somewhere():
    "What `make docs` finds in the rendered pages, here in the sources."
    for path in sorted(root.glob("nbs/**/[!.]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)):
            assert "://" in target or (path.parent/target).exists(), f"{path.name}: {target}"
