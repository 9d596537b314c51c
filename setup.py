"Installs Natron; names, versions and requirements live in settings.ini."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup

here = Path(__file__).parent
cfg = ConfigParser(delimiters=["="])
cfg.read(here/"settings.ini", encoding="utf-8")
c = cfg["DEFAULT"]
oldest, newest = (int(c[k].split(".")[1]) for k in ("min_python", "max_python"))

# Candles, configurations and run notebooks stand at the top of the repository; a wheel carries them inside the package.
carried = {"natron.data": "data", "natron.configs": "configs", "natron.nbs.runs": "nbs/runs"}


def needed(*groups): return sorted({r for g in groups for r in c[f"{g}requirements"].split()})

parts = {"train": ["train_"], "serve": ["serve_"], "app": ["serve_", "app_"], "rl": ["train_", "rl_"], "lab": ["lab_"],
         "sweep": ["train_", "sweep_"], "ray": ["ray_"], "markets": ["markets_"]}
parts["all"] = [g for name in ("train", "serve", "app", "rl", "lab") for g in parts[name]]
parts["docs"] = [*parts["all"], "sweep_", "ray_", "markets_", "docs_"]
parts |= {"dev": [*parts["docs"], "dev_"], "bench": ["bench_"], "track": ["track_"]}
parts["jupyter"] = [*parts["dev"], "jupyter_"]

setup(
    name=c["lib_name"], version=c["version"], description=c["description"], author=c["author"],
    license="Apache-2.0", keywords=c["keywords"],
    long_description=(here/"README.md").read_text(encoding="utf-8"), long_description_content_type="text/markdown",
    python_requires=f">=3.{oldest},<3.{newest+1}",
    classifiers=["Development Status :: 3 - Alpha", "Intended Audience :: Financial and Insurance Industry"]
        + [f"Programming Language :: Python :: 3.{m}" for m in range(oldest, newest+1)],
    packages=["natron", *carried], package_dir={"natron": "natron", **carried},
    package_data={"natron.data": ["*.csv.gz", "*.pt", "*.md"], "natron.configs": ["*.yaml"],
                  "natron.nbs.runs": ["*.ipynb"]},
    install_requires=needed(""), extras_require={name: needed(*groups) for name, groups in parts.items()},
    entry_points={"console_scripts": c["console_scripts"].split()}, zip_safe=False,
)
