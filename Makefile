# make train   set up a private environment, then run the main job
# make test    add to it what the tests need, then run them
# make docs    build the pages as HTML, warnings as errors
# Both are quick when repeated: the environment is rebuilt only when its inputs change.
# PYTHON picks the interpreter, VENV the place, ARGS goes to the program that is run.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev

.PHONY: train test docs lint format clean

train: $(READY)
	$(BIN)/ternvae train $(ARGS)

# One thread per worker: two workers with a thread per core each would wait for one another.
test: $(READY_DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

docs: $(READY_DEV)
	$(BIN)/sphinx-build -W --keep-going -b html docs build/docs $(ARGS)

lint: $(READY_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/forbidden.py
	$(BIN)/python .ci/docstrings.py

format: $(READY_DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

INPUTS := setup.cfg setup.py pyproject.toml constraints.txt $(wildcard ternvae/*/_*.[ch])
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

$(READY): $(INPUTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[plot]'
	@touch $@

$(READY_DEV): $(READY)
	$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info ternvae/*/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
