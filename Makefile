# make train   set up a private environment, then run the main job
# make test    set up the same environment, then run the tests
# Both are quick when repeated: the environment is rebuilt only when its inputs change.
# PYTHON picks the interpreter, VENV the place, ARGS goes to the program that is run.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: train test lint format clean

train: $(READY)
	$(BIN)/ternvae train $(ARGS)

# One thread per worker: two workers with a thread per core each would wait for one another.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/forbidden.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): setup.cfg setup.py pyproject.toml constraints.txt $(wildcard ternvae/*/_*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info ternvae/*/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
