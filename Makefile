# make install | run | ui | test | check | docs | calibrate | bench | lock
# ARGS goes to `mlflow run`: make run ARGS="-P limit=8"; of bench, to it: make bench ARGS=--quick

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(CURDIR)/.venv/bin
INSTALL := -m pip --disable-pip-version-check install --quiet --quiet --no-compile
PIP := $(BIN)/python $(INSTALL)
# `--env-manager local` runs the python that the PATH names.
export PATH := $(BIN):$(PATH)
# Packages are installed without bytecode; their first import writes it, and halves the next ones.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install install-dev run ui test test-unit test-real check docs format calibrate bench lock

install: .venv/installed
install-dev: .venv/installed-dev

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "Python 3.11 is needed; say where it is with PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "installing into .venv (about three minutes the first time)"
	$(PYTHON) -m venv .venv
	$(PIP) $$(grep '^torch==' requirements.txt)
	$(PIP) -r requirements.txt
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	@touch $@

run: install
	mlflow run . --env-manager local $(ARGS)

ui: install
	mlflow ui --backend-store-uri sqlite:///mlflow.db --port $(or $(PORT),5000)

test: check test-unit test-real

test-unit: install-dev
	python -m pytest -m "not real" -n 2 --dist worksteal

test-real: install-dev
	python -m pytest -m real

check: install-dev docs
	ruff format --check .
	ruff check .
	mypy
	PYTHONPATH=src lint-imports --quiet

# The documentation site in site/, strictly: a dead link or anchor is an error.
docs: install-dev
	PYTHONPATH=. python -m zensical build --strict --clean

format: install-dev
	ruff check --fix .
	ruff format .

# Simulated studies with known truth: docs/explanation/calibration.md and .csv. STUDIES=200 for a quick look.
calibrate: install
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONPATH=src \
		python -m scripts.calibrate --studies $(or $(STUDIES),4000)

# Beside other tools, in an environment of its own: benchmarks/RESULTS.md. DATA_DIR or
# $ISOGLOSS_TEST_DATA names the folder of the evaluation data.
DATA_DIR ?= $(ISOGLOSS_TEST_DATA)
bench:
	@test -d "$(DATA_DIR)" || { echo "make bench DATA_DIR=/data names the folder with belebele/" \
		"and sib200/; '$(DATA_DIR)' is none" >&2; exit 1; }
	@$(MAKE) --no-print-directory .bench/installed
	.bench/bin/python -m benchmarks.bench --data-dir "$(DATA_DIR)" $(ARGS)

.bench/installed: requirements.txt benchmarks/requirements.txt
	@echo "installing into .bench (about three minutes the first time)"
	$(PYTHON) -m venv .bench
	.bench/bin/python $(INSTALL) $$(grep '^torch==' requirements.txt)
	.bench/bin/python $(INSTALL) -r benchmarks/requirements.txt
	@touch $@

# New exact versions of everything, from the ranges in pyproject.toml.
lock:
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet $$(grep '^torch==' requirements.txt)
	.lock/bin/pip install --quiet .
	.lock/bin/pip freeze --exclude isogloss | sed 's/+cpu//' > requirements.txt
	.lock/bin/pip install --quiet '.[dev]'
	{ echo "-r requirements.txt"; .lock/bin/pip freeze --exclude isogloss | sed 's/+cpu//' \
		| grep -vxFf requirements.txt; } > requirements-dev.txt
	rm -rf .lock
