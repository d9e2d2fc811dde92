# Each target works by itself as the first command on a fresh machine with Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
BENCH_READY := $(VENV)/ready-for-bench

# Where the environment forbids files of bytecode, as images of containers do, each process would compile everything anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup run test lint load bench chaos fuzz mutants lock clean

help:  ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## install everything into .venv

$(READY): setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("stockade: Python 3.11 or newer is needed; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded,load,dev]'
	touch $(READY)

run: $(READY)  ## set up, and run the service on http://127.0.0.1:8000
	$(BIN)/stockade up

test: $(READY)  ## set up, and run the whole suite; its longest proofs are in make chaos
	$(BIN)/pytest -n 4 --dist worksteal

lint: $(READY)  ## style, types, spelling, and which package may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

load: $(READY)  ## SCENARIO (baskets, flash_crowd, …) against HOST, or a private service, ending in a verdict: docs/load-testing.md
	$(BIN)/python -m loadtests.run $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(HOST),--host $(HOST)) $(if $(USERS),--users $(USERS)) $(if $(TIME),--time $(TIME)) $(if $(CHECKOUTS),--checkouts $(CHECKOUTS)) $(if $(SEED),--seed $(SEED)) $(if $(PROCESSES),--processes $(PROCESSES)) $(if $(KILL),--kill $(KILL)) $(if $(THRESHOLD),--threshold "$(THRESHOLD)")

bench: $(BENCH_READY)  ## measure, side by side with what else there is; WHAT="http layers" for some, QUICK=1 for a look
	$(BIN)/python -m loadtests.bench $(WHAT) $(if $(QUICK),--quick)

$(BENCH_READY): $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $(BENCH_READY)

chaos: $(READY)  ## the longest proofs, then faults under load; SEED is a plan, and with TIME (s) the seeds after it follow: docs/reliability.md
	$(BIN)/pytest -n 4 --dist worksteal -m slow
	$(BIN)/python -m tests.chaos.run $(if $(SEED),--seed $(SEED)) $(if $(TIME),--time $(TIME))

fuzz: $(READY)  ## what nobody should send, to a private service; SEED decides what, TIME (s) how long
	$(BIN)/python -m tests.fuzz.run $(if $(SEED),--seed $(SEED)) $(if $(TIME),--time $(TIME))

mutants: $(READY)  ## break scripts and engine in some 300 small ways, and see which the fast tests miss; SEED, COUNT: docs/mutation.md
	$(BIN)/python -m tests.mutation.run $(if $(SEED),--seed $(SEED)) $(if $(COUNT),--count $(COUNT))

lock:  ## write constraints.txt anew from what is current
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade -e '.[embedded,load,bench,dev]'
	$(BIN)/pip freeze --exclude-editable | grep -v '^stockade' > constraints.txt

clean:  ## remove what setup made
	rm -rf $(VENV) build *.egg-info
