# Everything runs in .venv, which the first target makes. Any Python from 3.11 on: make test PYTHON=python3.13
PYTHON ?= $(shell for python in python3.11 python3; do $$python -c '' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# Options for the demo: make demo ARGS=--no-serve
ARGS ?=
# Options for pytest: make test-sqlite PYTEST_ARGS="-x -k windows". Tests wait for servers a good deal: one process more than cores.
PYTEST_ARGS ?= -n $(shell echo $$(($$(nproc 2>/dev/null || echo 2) + 1))) --dist worksteal

# A run starts many processes; each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

# Runs the suite on a database. What failed is run once more, one by one, on a machine that does nothing else: some tests drive
# servers and browsers, and wait for them. Both runs are told; what fails twice fails.
define suite
$(BIN)/python -m pytest --database=$(1) $(PYTEST_ARGS) || \
	$(BIN)/python -m pytest --database=$(1) --last-failed --last-failed-no-failures=none
endef

.DEFAULT_GOAL := help
.PHONY: help demo test lint format test-sqlite test-postgresql test-mariadb test-crash bench clean

help: ## Show the targets.
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-demo ## Load real traffic into an SQLite database, show its usage, serve it. ARGS=--no-serve ends after the figures.
	$(BIN)/python example_project/manage.py demo $(ARGS)

test: ## Run the checks of the code, then the suite on SQLite, PostgreSQL and MariaDB.
	$(MAKE) lint
	$(MAKE) test-sqlite
	$(MAKE) test-postgresql
	$(MAKE) test-mariadb

lint: $(VENV)/.installed-test ## Check style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --no-incremental
	$(BIN)/lint-imports

format: $(VENV)/.installed-test ## Put the code into its form.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-sqlite: $(VENV)/.installed-test ## Run the suite on SQLite.
	$(call suite,sqlite)

test-postgresql: $(VENV)/.installed-test ## Run the suite on a PostgreSQL of its own; skipped where none is installed.
	$(call suite,postgresql)

test-mariadb: $(VENV)/.installed-test ## Run the suite on a MariaDB of its own; skipped where none is installed.
	$(call suite,mariadb)

test-crash: $(VENV)/.installed-test ## Kill processes at random while events come in, on each database; ARGS=--kills=50 for fewer.
	$(BIN)/python -m tests.crash --database=sqlite $(ARGS)
	$(BIN)/python -m tests.crash --database=mariadb $(ARGS)
	$(BIN)/python -m tests.crash --database=postgresql $(ARGS)

bench: $(VENV)/.installed-bench ## Run every benchmark; the last line counts the aims met and missed.
	$(BIN)/python -m benchmarks $(ARGS)

bench-%: $(VENV)/.installed-bench ## Run one benchmark: make bench-latency.
	$(BIN)/python -m benchmarks $* $(ARGS)

clean: ## Remove .venv and what tools left behind; the demo's database stays.
	rm -rf $(VENV) .tox .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist *.egg-info

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; say which with PYTHON=python3.13" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group demo
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/pip
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group test --group lint
	@touch $@
