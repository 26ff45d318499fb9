# Each target sets up all it needs in a virtual environment of its own, on a fresh machine too.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RUN_READY = $(VENV)/.ready
DEV_READY = $(VENV)/.ready-dev
PEERS = $(or $(TUNEFORK_HOME),$(HOME)/.tunefork)/benchmarks/peers

.PHONY: demo test check format soak bench

demo: $(RUN_READY)  ## tune the bundled base on the bundled example, and prove it
	$(BIN)/tunefork demo

test: $(DEV_READY)  ## all tests but the long ones
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

soak: $(DEV_READY)  ## the long runs: many kills, big fuzz
	$(BIN)/python -m pytest -m soak --hypothesis-profile soak

check: $(DEV_READY)  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

# BENCH takes options, e.g. `make bench BENCH=--quick` for a first look in minutes.
bench: $(RUN_READY) $(PEERS)/.ready  ## measure against the peers: same rows, same run; takes hours
	$(BIN)/python -m benchmarks.sft $(BENCH)
	$(BIN)/python -m benchmarks.full $(BENCH)

format: $(DEV_READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(RUN_READY): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(DEV_READY): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@ $(RUN_READY)

# torch first and by itself, so that a processor's build of it is kept where pip prefers one.
$(PEERS)/.ready: benchmarks/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $$(grep ^torch $<)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@
