# Everything runs in .venv, made from the package index alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench docs format clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[demo]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## index real photos and videos with the built-in encoder, and query them
	$(BIN)/python examples/demo.py

# As many processes as cores, and one thread in each: threads that wait for each other cost more.
# Files in their order, so that the long ones, which come first, do not end up alone.
test: $(VENV)/.dev  ## the default test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev  ## format, lint, types, import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.bench: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	touch $@

bench: $(VENV)/.bench  ## every benchmark, as JSON lines
	for name in ingest query filters store spans heads duplicates calibration heatmaps; do $(BIN)/python -m benchmarks.$$name || exit 1; done

docs: $(VENV)/.dev  ## the commands' options in the README
	$(BIN)/python -m tools.command_help

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .demo build *.egg-info
