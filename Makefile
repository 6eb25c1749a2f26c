# Everything happens in .venv; a change of pyproject.toml installs again.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo check test-fast test test-long docs pictures fuzz kill readme format wheel clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/installed  ## Install the package and the development tools into .venv

demo: .venv/installed  ## Install, then train, explain, prune and evaluate on generated clicks, twice
	$(BIN)/glassrec run run.dir=runs/demo
	$(BIN)/glassrec run run.dir=runs/demo_sparse objective=sparse explain/compare=none prune/curves=none
	$(BIN)/glassrec verify run.dir=runs/demo_sparse

check: .venv/installed  ## Check formatting, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-fast: .venv/installed  ## Run the tests that need no training of their own
	$(BIN)/python -m pytest -n 2 -m "not slow and not long"

test: .venv/installed  ## Install, then run all tests but the long ones
	$(BIN)/python -m pytest -n 2 -m "not long"

test-long: .venv/installed  ## Run the long tests: several processes, kills, memory of whole processes
	$(BIN)/python -m pytest -n 2 -m long

docs: .venv/installed  ## Build the documentation into site/, and fail on any warning
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

pictures: .venv/installed  ## Make the picture of README and docs from a run of the demo
	$(BIN)/python docs/pictures.py

fuzz: .venv/installed  ## Read 10,000 generated files and 10,000 fuzzed rows of each format, and compare with other readers
	GLASSREC_EXAMPLES=10000 $(BIN)/python -m pytest --timeout=0 --hypothesis-show-statistics tests/data/test_reading_properties.py tests/inference/test_row_properties.py

kill: .venv/installed  ## End runs at 120 random moments (kill -9, SIGTERM, SIGINT), and compare what resumed
	$(BIN)/python tests/kill_study.py
	$(BIN)/python tests/kill_study.py --devices 2 --strategy ddp_fork --moments 15
	$(BIN)/python tests/kill_study.py --devices 2 --moments 5

readme: .venv/installed  ## Run every command of the README as it is written
	$(BIN)/python tests/run_readme.py

format: .venv/installed  ## Format the code, and apply the automatic fixes of the linter
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: .venv/installed  ## Build dist/*.whl
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

clean:  ## Remove everything that was installed or built, but no runs
	rm -rf .venv dist build site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@
