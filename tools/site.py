"""The site, from notebooks, `docs/` and docments: `python tools/site.py` writes it to `_docs/`
and checks every link within it.

`_proc/` is what the renderer reads: the project with the notebooks as nbdev prepares them (hidden cells and directives
gone), and a page of reference for each module. smalldocs renders it by `_quarto.yml`, and runs nothing; Quarto could
render the same folder. Every page is there as Markdown too, at the same path with `.md`, and `llms.txt` lists those.
"""
import ast, html, os, re, shutil, sys
from pathlib import Path
from urllib.parse import unquote, urlsplit
import yaml
from execnb.nbio import write_nb
from latex2mathml.converter import convert
from lxml import html as lxml_html
from nbdev.process import NBProcessor
from nbdev.processors import hide_, hide_line
from smalldocs import api, config, layout, site

root = Path(__file__).resolve().parent.parent
CUT = 12                                                     # lines of a constant that its page shows


# What the renderer reads

def default_exp_(cell, module):
    "Drop the cell that names the module."
    del cell["source"]


def write_new(path, text):
    "Write a file in place of a link to the project's own."
    path.unlink(missing_ok=True)
    path.write_text(text, encoding="utf-8")


def stage(folder):
    "Lay out the project as links to its files, with pages that differ from their source written anew."
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root, folder, copy_function=os.symlink, ignore=shutil.ignore_patterns(".*", "_*", "*.egg-info"))
    for path in folder.glob("nbs/**/*.ipynb"):
        done = NBProcessor(path, procs=[hide_, hide_line, default_exp_], process=True)
        path.unlink()
        write_nb(done.nb, path)
    for path in folder.glob("docs/*.md"):                    # the README is the index notebook
        write_new(path, path.read_text(encoding="utf-8").replace("(../README.md", "(../nbs/index.ipynb"))


def write_config(folder, modules):
    "The site's structure, with the reference pages as its last section."
    cfg = yaml.safe_load((root/"_quarto.yml").read_text(encoding="utf-8"))
    cfg["project"] |= {"output-dir": "../_docs", "render": [*cfg["project"]["render"], "api/*"]}
    pages = ["api/index.md", *(f"api/{short(m)}.qmd" for m in modules)]
    cfg["website"]["sidebar"]["contents"].append({"section": "API", "contents": pages})
    cfg["smalldocs"] = {"linkify": True}
    (folder/"_quarto.yml").write_text(yaml.safe_dump(cfg, sort_keys=False), encoding="utf-8")


# Pages of reference

def short(module): return module.__name__.rpartition(".")[2]
def source(module): return Path(module.__file__).read_text(encoding="utf-8")
def notebook(module): return re.search(r"File to edit: \.\./(\S+\.ipynb)", source(module))[1]


def assigned(module):
    "The lines that assign each name at the top of a module."
    text, found = source(module), {}
    for node in ast.parse(text).body:
        names = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        if isinstance(node, ast.Assign | ast.AnnAssign):
            found |= dict.fromkeys(names, text.splitlines()[node.lineno - 1:node.end_lineno])
    return found


def constant(name, lines):
    "The entry of a name that is no function and no class: the code that makes it."
    shown = lines if len(lines) <= CUT else [*lines[:CUT], "..."]
    return "\n".join([f"## {name} {{#{name}}}", "", "```python", *shown, "```", ""])


def reference(folder, modules):
    """A page for each module, with every exported name and a link to its notebook;
    an index; and what names in backticks link to."""
    api.build(api.Settings(folder, [m.__name__ for m in modules], root=root))
    homes = {name: m for m in reversed(modules) for name in m.__all__}
    rows = []
    for m in modules:
        page = folder/f"api/{short(m)}.qmd"
        front, body = page.read_text(encoding="utf-8").split("\n---\n", 1)
        own, lines = {o.__qualname__ for o in api.own(m)}, assigned(m)
        others = [n for n in m.__all__ if n not in own]
        told = f"\nThe notebook [{notebook(m)}](../{notebook(m)}) explains and tests it.\n"
        taken = [f"- [`{n}`]({short(homes[n])}.qmd#{n})" for n in others if n not in lines]
        write_new(page, "\n".join([f"{front}\n---", told, *taken, body,
                                   *(constant(n, lines[n]) for n in others if n in lines)]))
        rows.append(f"| [`{m.__name__}`]({page.name}) | {api.summary(m)} | "
                    f"[{Path(notebook(m)).stem}](../{notebook(m)}) |")
    head = "# API\n\nEvery public name, by module: its signature, what its parameters mean, " \
           "and the notebook that explains it.\n"
    (folder/"api/index.md").write_text(
        "\n".join([head, "| module | holds | notebook |", "|---|---|---|", *rows, ""]), encoding="utf-8")


def project_modules():
    "The modules, in the order of their notebooks."
    return sorted(api.package_modules("natron"), key=notebook)


# The renderer, and what it leaves to be done

def mathml(m):
    "A formula that every browser shows without a script."
    return convert(html.unescape(m[2]), display={"inline": "inline", "display": "block"}[m[1]])


class Site(site.Site):
    "The renderer, which fetches nothing from elsewhere and lists pages by section."
    def render_page(self, page):
        super().render_page(page)
        if page.env.pop("math", False):
            page.html = re.sub(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', mathml,
                               page.html, flags=re.S)

    def write_llms_txt(self):
        web, whole = self.project.website, []
        lines = [f"# {web['title']}", "", f"> {web['description']}", ""]
        for item in layout.SiteNav(self).sidebars[0]["items"]:
            if item.section: lines += ["", f"## {html.unescape(item.text)}", ""]
            for page in item.pages():
                path = page.out.with_suffix(".md")
                text = markdown_copy(self.out/path)
                lines.append(f"- [{page.title}]({path}){gist(text)}")
                whole.append(f"<!-- {path} -->\n\n{text}")
        (self.out/"llms.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
        (self.out/"llms-full.txt").write_text("\n".join(whole), encoding="utf-8")


def markdown_copy(path):
    "The text of a page's copy, once it has the page's own name."
    made = path.with_suffix(".llms.md")
    text = made.read_text(encoding="utf-8").replace(".llms.md", ".md")
    made.unlink()
    path.write_text(text, encoding="utf-8")
    return text


def gist(text):
    "What a page says of itself below its title: its quoted question, or the first sentence."
    said = re.search(r"^# [^\n]+\n+(?:> )?([A-Z].*?[.?!])(?=\s)", text, re.S)
    if not said: return ""
    plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", said[1])
    return f": {' '.join(plain.split())}"


def finish(out, home):
    "No font from elsewhere, and a first page."
    for path in (out/"site_libs/themes").glob("*.css"):
        write_new(path, re.sub(r"@import url\([^)]*\);?", "", path.read_text(encoding="utf-8")))
    link = f'<!DOCTYPE html><title>Natron</title><meta http-equiv="refresh" content="0; url={home}">' \
           f'<a href="{home}">Natron</a>'
    (out/"index.html").write_text(link, encoding="utf-8")


def render(folder):
    "Render what was staged; the site, and what the renderer complains of."
    built = Site(config.load(folder), quiet=True)
    built.build()
    finish(built.out, "nbs/index.html")
    unlisted = [f"{p.relative_to(built.out)}: the sidebar in _quarto.yml does not list this page"
                for p in built.out.rglob("*.llms.md")]
    return built.out, [*unlisted, *(w for w in built.warnings if "smalldocs runs no code" not in w)]


# Links

def leads(page, link, ids):
    "Why a link of a page leads nowhere, or None; `ids` has every file, with the anchors of a page."
    url = urlsplit(link)
    path = f"{url.path}index.html" if url.path.endswith("/") else url.path
    there = os.path.normpath(os.path.join(os.path.dirname(page), unquote(path))) if path else page
    if there not in ids: return "is not there"
    if url.fragment and there.endswith(".html") and unquote(url.fragment) not in ids[there]:
        return "has no such heading"


def broken(out):
    "Links, anchors and pictures of the rendered site that lead nowhere, and what a page would fetch from elsewhere."
    files = {str(p): p for p in out.rglob("*") if p.is_file()}
    trees = {name: lxml_html.parse(name).getroot() for name in files if name.endswith(".html")}
    ids = dict.fromkeys(files, ()) | {name: set(tree.xpath("//@id")) for name, tree in trees.items()}
    found = []
    for page, tree in trees.items():
        for element, _, link, _ in tree.iterlinks():
            away = urlsplit(link).scheme or urlsplit(link).netloc
            if away and (element.tag == "a" or away == "data"): continue
            if why := "is fetched from elsewhere" if away else leads(page, link, ids):
                found.append(f"{files[page].relative_to(out)}: {link} {why}")
    for path in out.rglob("*.css"):
        fetched = re.findall(r"url\(['\"]?((?:https?:)?//[^)]*)", path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(out)}: {url} is fetched from elsewhere" for url in fetched]
    return found


if __name__ == "__main__":
    folder, modules = root/"_proc", project_modules()
    stage(folder)
    write_config(folder, modules)
    reference(folder, modules)
    out, warnings = render(folder)
    if found := [*warnings, *broken(out)]: sys.exit("\n".join([*found, f"{len(found)} things are wrong with the site"]))
    print(f"{sum(1 for _ in out.rglob('*.html'))} pages, and every link within the site leads somewhere. "
          f"Open {out.name}/index.html; for the search too,")
    print(f"    python -m http.server --bind 127.0.0.1 --directory {out.name} 8080        # then http://127.0.0.1:8080")
