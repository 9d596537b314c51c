"Installs Natron; names, versions and requirements live in settings.ini."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup

cfg = ConfigParser(delimiters=["="])
cfg.read(Path(__file__).parent/"settings.ini", encoding="utf-8")
c = cfg["DEFAULT"]

# Candles, configurations and run notebooks stand at the top of the repository; a wheel carries them inside the package.
carried = {"natron.data": "data", "natron.configs": "configs", "natron.nbs.runs": "nbs/runs"}

setup(
    name=c["lib_name"], version=c["version"], description=c["description"], author=c["author"],
    license="Apache-2.0", keywords=c["keywords"],
    long_description=Path("README.md").read_text(encoding="utf-8"), long_description_content_type="text/markdown",
    python_requires=f">={c['min_python']},<3.{int(c['max_python'].split('.')[1]) + 1}",
    classifiers=["Development Status :: 3 - Alpha", "Intended Audience :: Financial and Insurance Industry"]
        + [f"Programming Language :: Python :: 3.{m}" for m in (11, 12, 13)],
    packages=["natron", *carried], package_dir={"natron": "natron", **carried},
    package_data={"natron.data": ["*.csv.gz", "README.md"], "natron.configs": ["*.yaml"], "natron.nbs.runs": ["*.ipynb"]},
    install_requires=c["requirements"].split(), extras_require={"dev": c["dev_requirements"].split(), "bench": c["bench_requirements"].split(), "track": c["track_requirements"].split()},
    entry_points={"console_scripts": c["console_scripts"].split()}, zip_safe=False,
)
