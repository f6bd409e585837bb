# Needs: Python 3.11 or newer, make, and a way to the Python package index. `make help` lists the recipes.

VENV := .venv
BIN := $(VENV)/bin
# The first Python on the path that is new enough; name another with: make test PYTHON=/path/to/python3
PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v "$$candidate" && break; done)
# Formats and checks scripts and styles; what it remembers between two runs stays in the environment.
DENO := DENO_DIR=$(VENV)/.deno DENO_NO_UPDATE_CHECK=1 $(BIN)/deno
# Where wheels of torch without CUDA lie, for machines without a GPU; empty to ask no second index.
CPU_INDEX ?= https://download.pytorch.org/whl/cpu
export CPU_INDEX
# Two test processes, one thread each: more threads than cores make the numeric tests slower, not faster.
TEST_PROCESSES ?= 2

# Each stamp is newer than what it was installed from, so nothing is installed twice.
RUNTIME := $(VENV)/.installed-runtime
PACKAGE := $(VENV)/.installed-package
VIEW := $(VENV)/.installed-view
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.PHONY: help run view test quick lint format check-runtime bench docs pictures requirements clean

help:  ## list the recipes
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1	\2/p' Makefile

run: $(PACKAGE)  ## install what is needed, open the demo in the browser
	$(BIN)/csp demo

view: $(VIEW)  ## the same with what only shows bundles: no torch, so no builds and no encoder
	$(BIN)/csp demo

test: $(PACKAGE) $(DEV)  ## install what is needed and run all tests
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(TEST_PROCESSES) -m "not alone" $(PYTEST_ARGS)
	$(BIN)/python -m pytest -m alone $(or $(PYTEST_ARGS),tests/browser) || [ $$? = 5 ]  # 5: none was among the arguments

quick: $(PACKAGE) $(DEV)  ## the everyday tests: neither slow ones nor a browser
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(TEST_PROCESSES) -m "not slow and not browser" $(PYTEST_ARGS)

lint: $(PACKAGE) $(DEV)  ## style, formatting, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check csp_engine pages app.py hatch_build.py
	$(BIN)/lint-imports
	$(DENO) lint --quiet
	$(DENO) fmt --quiet --check

format: $(DEV)  ## mend what can be mended without thought
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(DENO) fmt --quiet

check-runtime: $(PACKAGE)  ## what a user installs is enough: the command answers and the pages open
	$(BIN)/csp --help > $(VENV)/.help.txt
	$(BIN)/python -m csp_engine --help > $(VENV)/.help.txt
	$(BIN)/python -c "import app"
	$(BIN)/python -c "from streamlit.testing.v1 import AppTest; \
	page = AppTest.from_file('pages/ui/main.py', default_timeout=60).run(); \
	assert not page.exception, page.exception"

bench: $(PACKAGE) $(DEV)  ## measure speed and memory; tables land in benchmarks/results
	$(BIN)/python -m benchmarks

docs: $(PACKAGE)  ## write docs/cli.md, docs/openapi.json and the tables of docs/bundle.md
	$(BIN)/python -m tools.cli_reference
	$(BIN)/python -m tools.bundle_tables
	$(BIN)/python -m tools.api_description

pictures: $(PACKAGE) $(DEV)  ## take the pictures in the documents again, from the shipped demo
	$(BIN)/python -m tools.pictures
	$(BIN)/python -m tools.recording

requirements: $(RUNTIME)  ## compile requirements*.txt from pyproject.toml, keeping the versions that still fit
	$(BIN)/python -m pip install --quiet uv
	UV_CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/uv pip compile --quiet --universal \
		--python-version 3.11 --no-emit-index-url --extra networks pyproject.toml \
		-o requirements.txt
	UV_CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/uv pip compile --quiet --universal \
		--python-version 3.11 --no-emit-index-url pyproject.toml -c requirements.txt \
		-o requirements-view.txt
	UV_CUSTOM_COMPILE_COMMAND="make requirements" $(BIN)/uv pip compile --quiet --universal \
		--python-version 3.11 --no-emit-index-url --group pyproject.toml:dev -c requirements.txt \
		-o requirements-dev.txt

clean:  ## remove the virtual environment and all caches; bundles stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and none is on the path; install it, or name it: make $(or $(firstword $(MAKECMDGOALS)),test) PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11; name a newer one: make $(or $(firstword $(MAKECMDGOALS)),test) PYTHON=/path/to/python3" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUNTIME): requirements.txt tools/install.py | $(BIN)/python
	$(BIN)/python tools/install.py
	@touch $@

$(VIEW): requirements-view.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-view.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -e .
	@touch $@

$(PACKAGE): pyproject.toml $(RUNTIME)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -e .
	@touch $@

$(DEV): requirements-dev.txt $(RUNTIME)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@
