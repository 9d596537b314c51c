# Natron: `make demo` and `make test` need only Python 3.11 to 3.14 and make; each builds its own .venv first.
VENV := .venv
BIN := $(VENV)/bin
# The first interpreter on the PATH that fits; name another with `make PYTHON=/path/to/python3.12 demo`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && echo $$p && break; done)

# Libraries are compiled when they are first imported, and stay so: it is half of the time that a command takes to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo ready test test-fast lab readme notebooks docs dist pip-audit clean

help:
	@echo "make demo       train on the embedded candles, report, predict (a few minutes)"
	@echo "make ready      train the model that comes with Natron again: make ready CANDLES='A.csv.gz B.csv.gz'"
	@echo "make test       every test"
	@echo "make test-fast  the tests that take seconds"
	@echo "make lab        JupyterLab on the notebooks"
	@echo "make readme     README.md from nbs/index.ipynb, docs/settings.md from the settings"
	@echo "make dist       wheel and source distribution, tried on each Python at hand"
	@echo "make pip-audit  known vulnerabilities of the pinned versions"
	@echo "make notebooks  run the notebooks in place and export them (needs a Chromium for the pictures)"
	@echo "make docs       the site from notebooks and docs/, into _docs/"

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Natron needs Python 3.11, 3.12, 3.13 or 3.14 on the PATH (or make PYTHON=/path/to/python3.12 ...)"; exit 2; }
	$(PYTHON) -m venv $(VENV) || { echo "this Python cannot make virtual environments; on Debian: apt install python3-venv"; rm -rf $(VENV); exit 2; }

# `make demo` installs all that a user runs, the servers and the page too; `make test` what a developer runs; `make lab` JupyterLab beside it. (That
# brings a library which takes a second to load wherever a notebook is read, too much for the tests.)
$(VENV)/.all $(VENV)/.dev $(VENV)/.jupyter: $(VENV)/.%: settings.ini setup.py constraints.txt tools/install.py | $(BIN)/python
	$(BIN)/python tools/install.py $*
	@touch $@

demo: $(VENV)/.all
	$(BIN)/natron demo

# CLOCK is the zone of times that state none (data/README.md tells how it was found).
CLOCK ?= EET
ready: $(VENV)/.all
	@test -n "$(CANDLES)" || { echo "name the candle files: make ready CANDLES='AUDUSD.csv.gz EURJPY.csv.gz ...'"; exit 2; }
	rm -rf runs/natron_fx
	$(BIN)/natron train --config configs/ready.yaml --name natron_fx --tz $(CLOCK) --candles $(CANDLES)
	cp runs/natron_fx/natron_v2.pt data/natron_fx.pt
	sha256sum data/natron_fx.pt

test: $(VENV)/.dev
	$(BIN)/python -m pytest

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow"

lab: $(VENV)/.jupyter
	$(BIN)/jupyter lab --notebook-dir=nbs

readme: $(VENV)/.dev
	$(BIN)/python tools/readme.py
	$(BIN)/python tools/settings.py

notebooks: $(VENV)/.dev
	@rm -f natron/__pycache__/*.nb[ci]
	$(BIN)/python tools/notebooks.py
	$(BIN)/nbdev_export

dist: $(VENV)/.dev
	$(BIN)/python tools/dist.py

pip-audit: $(VENV)/.dev
	$(BIN)/python -m pip_audit --strict --requirement constraints.txt --no-deps --disable-pip

docs: $(VENV)/.dev
	$(BIN)/python tools/site.py

clean:
	rm -rf $(VENV) build dist _docs _proc *.egg-info .pytest_cache .hypothesis natron/__pycache__
