"""Run notebooks in place with their figures as small PNG images, then strip metadata:
`python tools/notebooks.py [NAME ...]`.

Needs a Chromium for the images (BROWSER_PATH names it). Names are as under nbs/, such as 01c_audit or
tutorials/audit_public_packages; without them every notebook is run, but those under runs/, which `natron train` fills.
"""
import base64, io, os, sys, time
from pathlib import Path
import nbformat, torch
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean
from PIL import Image

root = Path(__file__).resolve().parent.parent
os.environ |= {"PLOTLY_RENDERER": "png", "BROWSER_PATH": os.environ.get("BROWSER_PATH", "/usr/bin/chromium")}


class Client(NotebookClient):
    "Runs all cells, slow ones too, but the export cell, `eval: false` and, without a GPU, what needs one."
    async def async_execute_cell(self, cell, cell_index, **kw):
        if "nbdev_export(" in cell.source or "#| eval: false" in cell.source \
           or (cell.source.startswith("#| gpu") and not torch.cuda.is_available()): return cell
        return await super().async_execute_cell(cell, cell_index, **kw)


def shrink(png):
    "The same picture in 64 colours: a quarter of the bytes, and charts do not show the difference."
    buf = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(64).save(buf, "png", optimize=True)
    return base64.b64encode(buf.getvalue()).decode()


def settle(outputs):
    "Join what one stream printed, keep a progress bar's last state, and drop what the picture maker logs."
    kept = []
    for o in outputs:
        if o.output_type == "stream" and o.name == "stderr" and "choreographer" in o.text: continue
        if kept and o.output_type == "stream" == kept[-1].output_type and o.name == kept[-1].name:
            kept[-1].text += o.text
        else: kept.append(o)
    for o in (o for o in kept if o.output_type == "stream"):
        o.text = "\n".join(l.split("\r")[-1] for l in o.text.split("\n"))
    return kept


def run(path):
    nb = nbformat.read(path, 4)
    Client(nb, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    nb.metadata.pop("widgets", None)                         # their state would be larger than the notebook
    for c in nb.cells:
        if c.cell_type == "code": c.outputs = settle(c.outputs)
    for o in (o for c in nb.cells for o in c.get("outputs", [])):
        if "image/png" in o.get("data", {}): o.data["image/png"] = shrink(o.data["image/png"])
    nbformat.write(nb, path)
    nbdev_clean(fname=str(path))


if __name__ == "__main__":
    names = [a.removeprefix("nbs/").removesuffix(".ipynb") for a in sys.argv[1:]]
    found = {p.relative_to(root/"nbs").with_suffix("").as_posix(): p
             for k in ("[0-9i]*.ipynb", "tutorials/*.ipynb", "experiments/*.ipynb")
             for p in sorted((root/"nbs").glob(k))}
    if unknown := set(names) - set(found):
        sys.exit(f"there is no notebook {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    for name, p in found.items():
        if names and name not in names: continue
        t = time.time()
        run(p)
        print(f"{name:36} {time.time()-t:6.1f} s  {p.stat().st_size//1000:4} kB")
