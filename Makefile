# Everything happens in .venv; a change of pyproject.toml installs again.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo test check fuzz kill readme format wheel clean

help:  ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/installed  ## Install, then train, explain, prune and evaluate on generated clicks, twice
	$(BIN)/glassrec run run.dir=runs/demo
	$(BIN)/glassrec run run.dir=runs/demo_sparse objective=sparse explain/compare=none prune/curves=none
	$(BIN)/glassrec verify run.dir=runs/demo_sparse

test: .venv/installed  ## Install, then run the tests
	$(BIN)/python -m pytest -n 2

check: .venv/installed  ## Formatting, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

fuzz: .venv/installed  ## Read 10,000 generated CSV and 10,000 parquet files, and compare with other readers
	GLASSREC_EXAMPLES=10000 $(BIN)/python -m pytest --timeout=0 --hypothesis-show-statistics tests/data/test_reading_properties.py

kill: .venv/installed  ## End runs at 120 random moments (kill -9, SIGTERM, SIGINT), and compare what resumed
	$(BIN)/python tests/kill_study.py
	$(BIN)/python tests/kill_study.py --devices 2 --strategy ddp_fork --moments 15
	$(BIN)/python tests/kill_study.py --devices 2 --moments 5

readme: .venv/installed  ## Run every command of the README as it is written
	$(BIN)/python tests/run_readme.py

format: .venv/installed  ## Format the code, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

wheel: .venv/installed  ## Build dist/*.whl
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

clean:  ## Remove what was installed and built; runs stay
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@
