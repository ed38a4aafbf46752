# `make quick` and `make test` work in a fresh clone: both make .venv first, with pinned packages.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: quick test test-all bench lint venv

quick: $(READY)
	$(BIN)/gibench run suite=quick
	$(BIN)/gibench report suite=quick

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n auto --dist worksteal

test-all: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

bench: .venv/.bench
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m benchmarks.overhead
	PYTHONPATH=tests $(BIN)/python -m benchmarks.report
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m benchmarks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

venv: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("gibench needs Python 3.11 or newer, this is %d.%d; choose one with PYTHON=" % v[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/.bench: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	touch $@
