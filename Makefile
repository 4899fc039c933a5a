# `make test` is the one command: it makes the environment, then runs every check.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: test demo lint types layers soak bench bench-peers constraints clean

test: lint types layers
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not soak"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

# All tests and their long runs: deep properties, kills over many seeds.
soak: $(STAMP)
	HYPOTHESIS_SOAK=1 $(BIN)/python -m pytest -n 2 --timeout 7200
	$(BIN)/python -m tests.support.kill_harness --seeds 200 --lines 5000

bench: $(STAMP)
	$(BIN)/python -m benchmarks

# Needs Python 3.12 beside (PEER_PYTHON names one) and the package registry.
bench-peers: $(STAMP)
	$(BIN)/python -m benchmarks.peers

demo: $(STAMP)
	$(BIN)/batcher demo

constraints: $(STAMP)
	@echo "# Names and versions that \`make test\` installs; regenerate with \`make constraints\`." > constraints.txt
	$(PIP) freeze --exclude-editable --exclude setuptools --exclude wheel --exclude pip | grep -v '@' >> constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(shell command -v $(PYTHON) || command -v python3) -m venv .venv
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	touch $(STAMP)

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
