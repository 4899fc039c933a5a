# `make test` is the one command: it makes the environment, then runs every check. `make help` lists the others.
PYTHON ?= python3.11
BIN := .venv/bin
# The example that `make demo` runs. That of jobs/bios has its settings here, any other in its own folder.
JOB ?= jobs/bios
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Two workers more than the two cores of CI: tests of real processes wait for clocks, files and each other.
PYTEST := $(BIN)/python -m pytest -n 4 --dist worksteal

.DEFAULT_GOAL := test
.PHONY: help test fast fmt demo lint types layers soak mutation bench bench-peers interop screens constraints clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

test: lint types layers ## every check, and every test but the soak
	$(PYTEST) -m "not soak"

fast: lint types layers ## every check, and the tests that need no real processes and are not marked slow
	$(PYTEST) -m "not soak and not slow" --ignore tests/processes

fmt: $(STAMP) ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy
	$(BIN)/mypy

layers: $(STAMP) ## which folder may import which
	$(BIN)/lint-imports

soak: $(STAMP) ## all tests and their long runs: deep properties, kills and budgets over many seeds, each moment of a fold
	HYPOTHESIS_SOAK=1 $(BIN)/python -m pytest -n 2 --timeout 7200
	$(BIN)/python -m tests.support.kill_harness --seeds 200 --lines 5000 --jobs 2
	$(BIN)/python -m tests.support.kill_harness --plain --seeds 20 --lines 5000
	$(BIN)/python -m tests.support.budget_runs --runs 200
	$(BIN)/python -m tests.support.crash_states
	$(MAKE) mutation
	HYPOTHESIS_FEW=1 $(BIN)/python -m tests.support.mutation paid-once 4

mutation: $(STAMP) ## which small changes to the core no test notices: the table and the list of docs/reliability.md
	$(PIP) install --quiet --constraint constraints.txt --editable '.[mutation]'
	HYPOTHESIS_FEW=1 $(BIN)/python -m tests.support.mutation core

bench: $(STAMP) ## speed and memory beside a floor of the same run
	$(BIN)/python -m benchmarks

# Needs Python 3.12 beside (PEER_PYTHON names one) and the package registry.
bench-peers: $(STAMP) ## the same work with gpt-batch-api
	$(BIN)/python -m benchmarks.peers

# Needs the package registries; Python 3.12 or later for OGX (INTEROP_PYTHON names one) and node, or skips what needs them.
interop: $(STAMP) ## servers and clients of others with Batcher and its sandbox, for ten minutes; writes docs/interop.md
	$(BIN)/python -m tests.interop

demo: ## a whole job against a local Batch API, that of JOB (jobs/bios, jobs/tickets, jobs/embed); leaves results and state in demo/
	@test -x $(BIN)/batcher || echo "Installing Batcher into .venv (half a minute) ..."
	@test -x $(BIN)/batcher || $(MAKE) --no-print-directory $(BIN)/batcher
	$(BIN)/batcher demo --config $(if $(filter jobs/bios,$(JOB)),batcher.toml,$(JOB)/batcher.toml)

# What users install, without the tools of developers, which `make test` adds.
$(BIN)/batcher:
	@$(shell command -v $(PYTHON) || command -v python3) -m venv .venv
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[sandbox]'

screens: $(STAMP) ## the pictures of docs/screens, some of them with Chromium
	$(BIN)/python -m tests.support.report_screens
	$(BIN)/python -m tests.support.terminal_screens

constraints: $(STAMP) ## write constraints.txt from the environment
	@echo "# Names and versions that \`make test\` installs; regenerate with \`make constraints\`." > constraints.txt
	$(PIP) freeze --exclude-editable --exclude setuptools --exclude wheel --exclude pip | grep -v '@' >> constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(shell command -v $(PYTHON) || command -v python3) -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	touch $(STAMP)

clean: ## remove the environment and all caches
	rm -rf .venv build dist mutants *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
