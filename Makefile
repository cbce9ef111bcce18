# Everything a person or a machine does with this checkout. Each target makes what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help up test check lint types imports matrix bench kubo provision lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "layermesh needs Python 3.11 or newer; this is $$($(PYTHON) --version). Name another with: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "this Python cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
	@touch $@

# The environment a node needs; hashes pinned, nothing built without them.
$(VENV)/.run: $(VENV)/.python requirements/run.txt pyproject.toml
	@echo "installing layermesh into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# What the tests and checks need besides.
$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "installing the test tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

up: $(VENV)/.run ## start a node; flags of `layermesh up` go in ARGS="..."
	@exec $(BIN)/layermesh up $(ARGS)

test: $(VENV)/.dev ## run the tests; what this machine cannot run is skipped with the reason
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.dev
	@$(BIN)/mypy

imports: $(VENV)/.dev
	@$(BIN)/lint-imports

check: lint types imports test ## ruff, mypy, the import contracts, the tests

matrix: $(VENV)/.dev ## every fault of an upstream and of a peer, with every client; shows the time a node adds to each
	@MATRIX_REPORT=matrix.txt $(BIN)/python -m pytest -q tests/facade/matrix $(ARGS); status=$$?; cat matrix.txt; exit $$status

bench: $(VENV)/.dev ## measure against docker-registry, distribution and nginx; writes bench.json
	@$(BIN)/python -m tests.bench $(ARGS)

kubo: ## build Kubo, which the tests of IPFS run (Go 1.26 and two minutes, once)
	@tests/kubo/build

provision: ## (root, Debian) install what the e2e tests and the bench need
	@tests/e2e/provision

lock: $(VENV)/.dev ## pin the dependencies anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra build pyproject.toml -o requirements/run.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --extra build --extra dev pyproject.toml -o requirements/dev.txt

clean: ## remove what the other targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench.json matrix.txt
