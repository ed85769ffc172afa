# Every target sets up what it needs in .venv: git, make and Python 3.11 or newer with its venv module suffice.

VENV ?= .venv
JOBS ?= 2
SUITABLE := import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c '$(SUITABLE)' 2>/dev/null && echo "$$python" && break; done)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
GEN3 := .venv-gen3
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help setup demo demo-hsc pool slurm test test-long lint format bench bench-gen3 bench-large bench-check wheel clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo        make a small survey, register it, lay out a job and read it back'
	@echo 'make demo-hsc    the run of DMTN-050 with simulated HSC images: a few minutes, in build/demo-hsc'
	@echo 'make pool        start a personal HTCondor pool in build/pool: docs/engines.md'
	@echo 'make slurm       start a Slurm of one node in build/slurm'
	@echo 'make test        run the tests, JOBS=$(JOBS) at a time'
	@echo 'make test-long   run those that it leaves out: batch systems with faults and in further settings'
	@echo 'make lint        check style, format, types and the direction of imports'
	@echo 'make format      format the code and mend what ruff can mend'
	@echo 'make bench       measure everything and bring docs/benchmarks.md up to date'
	@echo 'make bench-gen3  the same beside the Gen3 Butler, installed into $(GEN3)'
	@echo 'make bench-large the same with ten million files: hours'
	@echo 'make bench-check the same small; fails if a ratio is far off'
	@echo 'make wheel       build the wheel into dist/'
	@echo 'make setup       only create $(VENV)'
	@echo 'make clean       remove what these targets made'
	@echo 'PYTHON=... names the Python that $(VENV) is made with.'

setup: $(READY)

$(READY): pyproject.toml
	@"$(PYTHON)" -c '$(SUITABLE)' 2>/dev/null || { \
		echo 'make: dbb needs Python 3.11 or newer with the modules venv and ensurepip (Debian: python3-venv).'; \
		echo 'make: found: $(or $(PYTHON),none); name another by make PYTHON=/path/to/python3'; exit 1; } >&2
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@# pip compiles what it copies, but an editable installation stays here uncompiled
	@$(BIN)/python -m compileall -q dbb cli mappers plugins
	@touch $@

demo: $(READY)
	$(BIN)/python examples/ci_hsc_mini/demo.py

demo-hsc: $(READY)
	$(BIN)/python examples/hsc/demo.py

pool: $(READY)
	$(BIN)/python examples/engines/condor_pool.py start build/pool

slurm: $(READY)
	$(BIN)/python examples/engines/slurm_cluster.py start build/slurm

test: $(READY)
	$(BIN)/pytest --numprocesses $(JOBS) -m 'not long'

test-long: $(READY)
	$(BIN)/pytest --numprocesses $(JOBS) -m long

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY)
	$(BIN)/python benchmarks/run.py

bench-gen3: $(READY) $(GEN3)/.ready
	$(BIN)/python benchmarks/run.py --gen3 $(GEN3)/bin/python

bench-large: $(READY)
	$(BIN)/python benchmarks/run.py --size large

bench-check: $(READY)
	$(BIN)/python benchmarks/run.py --check --work build/bench-check

$(GEN3)/.ready:
	"$(PYTHON)" -m venv $(GEN3)
	$(GEN3)/bin/pip install --quiet --requirement benchmarks/requirements-gen3.txt
	@touch $@

wheel: $(READY)
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	@[ ! -e build/pool ] || "$(PYTHON)" examples/engines/condor_pool.py stop build/pool
	@[ ! -e build/slurm ] || "$(PYTHON)" examples/engines/slurm_cluster.py stop build/slurm
	rm -rf $(VENV) $(GEN3) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
