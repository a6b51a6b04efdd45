# Everything sets itself up: Python 3.11+ is all that has to be there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo-out
export MPLBACKEND := Agg

.DEFAULT_GOAL := help
.PHONY: help install browser demo test test-all check lint docs dist bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("xcorr needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[all,dev,docs]'
	$(BIN)/python -m compileall -q core mappings pes xcorr  # for shells with PYTHONDONTWRITEBYTECODE
	touch $@

install: $(VENV)/.installed  ## make the virtual environment .venv with everything in it

demo: install  ## run the main job on the sample data; results and a picture in demo-out/
	$(BIN)/xcorr run configs/demo/stations.txt -o $(OUT)/demo.xcorr
	$(BIN)/xcorr plot $(OUT)/demo.xcorr --max-lag 40

browser:  ## install Chromium, which tests of the web pages use
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	  { sudo="$$([ "$$(id -u)" = 0 ] || echo sudo -n)"; \
	    $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || \
	  $(BIN)/playwright install chromium || \
	  echo "no Chromium: install it, or set XCORR_CHROMIUM; tests of the web pages are skipped" >&2

test: install browser  ## the tests (a few minutes)
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

test-all: install browser  ## all tests, the long ones too
	$(BIN)/pytest

lint: install  ## style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: install  ## the site, in docs/_build/html; runs the tutorials
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

dist:  ## sdist and wheel in dist/, checked, and tried on every Python that is there
	PYTHON=$(PYTHON) .ci/dist

check: lint docs test  ## what CI runs

bench: install  ## measure; prints ratios taken in one run
	$(BIN)/python benchmarks/run.py

clean:  ## remove what make made
	rm -rf $(VENV) $(OUT) bench-out docs/_build dist .venv-dist
