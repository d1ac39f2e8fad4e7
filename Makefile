# make install | run | ui | test | fuzz | faults | check | generate | docs | calibrate | bench | bench-gpu | lock | audit
# make install-vllm: vLLM's CPU build, which the tests marked `real` use where it is installed.
# make install-trainers: packages of external trainers, by whose definitions examples are checked.
# `make ui PORT=5001` serves another port than 5000.
# `make run` passes ARGS to `mlflow run` (make run ARGS="-P limit=8"), `make bench` to the benchmark.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(CURDIR)/.venv/bin
# torch's CPU build on a machine without an NVIDIA driver, else the build of the default index.
# TORCH_INDEX=URL names another index, TORCH_INDEX= the default one.
TORCH = $$(index=$$($(PYTHON) scripts/torch_index.py); \
	printf %s "$${index:+--extra-index-url $$index }"; grep '^torch==' requirements.txt)
INSTALL := -m pip --disable-pip-version-check install --quiet --quiet --no-compile
PIP := $(BIN)/python $(INSTALL)
# `mlflow run --env-manager local` runs the first python in PATH.
export PATH := $(BIN):$(PATH)
# Packages are installed without bytecode. The first import writes it, which halves later imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install install-dev install-vllm install-trainers run ui test test-unit test-tiny test-real slow-tests fuzz \
	faults check generate docs format calibrate bench bench-gpu lock audit

# The program `isogloss` is installed too, as a link to src/; entry points do without it.
install: .venv/installed
install-dev: .venv/installed-dev

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "isogloss needs Python 3.11; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "installing into .venv: about three minutes the first time, longer on a slow line"
	$(PYTHON) -m venv .venv
	@echo "1 of 2: torch (190 MB, or 3 GB with CUDA's libraries)"
	@$(PIP) $(TORCH)
	@echo "2 of 2: all other packages"
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@echo "installed; \`source .venv/bin/activate\` puts mlflow and isogloss on the PATH of this terminal"
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	@echo "installing what development needs (about three minutes the first time)"
	@$(PIP) -r requirements-dev.txt
	@touch $@

# In an environment of its own. Its torchvision and the like are CUDA builds, which fail beside
# torch's CPU build, and nothing here needs them.
install-vllm: .vllm/installed

.vllm/installed: scripts/vllm-requirements.txt .venv/installed
	@echo "installing vLLM into .vllm (about five minutes the first time)"
	$(PYTHON) -m venv .vllm
	.vllm/bin/python $(INSTALL) $(TORCH)
	.vllm/bin/python $(INSTALL) -r scripts/vllm-requirements.txt
	.vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	PYTHONPATH=src ISOGLOSS_VLLM=$(CURDIR)/.vllm $(BIN)/python -m scripts.vllm_server --write-metadata
	@touch $@

# Unpacked without what they need, which is gigabytes; their definitions can be read all the same.
install-trainers: .trainers/installed

.trainers/installed: scripts/trainers-requirements.txt .venv/installed
	rm -rf .trainers
	$(PIP) --no-deps --target .trainers -r scripts/trainers-requirements.txt
	@touch $@

run: install
	mlflow run . --env-manager local $(ARGS)

# Two processes with 490 MB instead of fifteen with 2.6 GB: isogloss uses no jobs, and one person
# needs no workers. `exec`: make passes SIGTERM to its child, and a shell would not pass it on to
# MLflow, which ends its server.
ui: install
	@python scripts/ui_address.py $(or $(PORT),5000)
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false PYTHONWARNINGS=ignore exec \
		mlflow ui --backend-store-uri sqlite:///mlflow.db --port $(or $(PORT),5000) \
		--workers 1 --uvicorn-opts --no-access-log

test: check test-tiny test-real

# Two minutes; `make test-tiny` has those of half a second or more too.
test-unit: install-dev
	python -m pytest -m "not real and not slow" -n 2 --dist worksteal

# All tests with tiny models.
test-tiny: install-dev
	python -m pytest -m "not real" -n 2 --dist worksteal

# Measures all tests with tiny models and lists the slow ones in tests/slow_tests.txt.
slow-tests: install-dev
	ISOGLOSS_SLOW_TESTS=1 python -m pytest -m "not real" -n 2 --dist worksteal

test-real: install-dev
	python -m pytest -m real -n 2 --dist loadfile

# Every change of every file that other tools write, and thousands of examples of each fuzzer, where
# `make test-unit` tries a sample.
fuzz: install-dev
	ISOGLOSS_FUZZ=1 python -m pytest tests/hostile

# Kills every entry point at each write, rename, deletion and transaction (hours on two cores); a
# sample with ARGS="--sample 20". `make test-real` tries five points.
faults: install-dev
	ISOGLOSS_FAULTS="$(or $(ARGS),--share 1/1)" python -m pytest -q -s tests/real/test_kill_points.py

check: install-dev docs
	ruff format --check .
	ruff check .
	mypy
	PYTHONPATH=src lint-imports --no-logo
	PYTHONPATH=src python -m scripts.generate --check

# MLproject, conda.yaml and the tables of parameters, from src/isogloss/config and requirements.txt.
generate: install-dev
	PYTHONPATH=src python -m scripts.generate

# The documentation site in site/, strictly: a dead link or anchor is an error.
docs: install-dev
	PYTHONPATH=. python -m zensical build --strict --clean

format: install-dev
	ruff check --fix .
	ruff format .

# Simulated studies with a known truth: docs/explanation/calibration.md and .csv. STUDIES=200 for a quick look.
calibrate: install
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONPATH=src \
		python -m scripts.calibrate --studies $(or $(STUDIES),4000)

# Comparison with other tools, in a separate environment: benchmarks/RESULTS-*.md. DATA_DIR or
# $ISOGLOSS_TEST_DATA is the folder with the evaluation data.
DATA_DIR ?= $(ISOGLOSS_TEST_DATA)
bench:
	@test -d "$(DATA_DIR)" || { echo "set DATA_DIR to the folder with belebele/ and sib200/:" \
		"'$(DATA_DIR)' is not a folder" >&2; exit 1; }
	@$(MAKE) --no-print-directory .bench/installed
	PYTHONPATH=src .bench/bin/python -m benchmarks.bench --data-dir "$(DATA_DIR)" $(ARGS)

# The engine on a GPU, without data or network; a rehearsal with a tiny model where there is none.
bench-gpu: .venv/installed
	PYTHONPATH=src $(BIN)/python -m benchmarks.gpu $(ARGS)

.bench/installed: requirements.txt benchmarks/requirements.txt
	@echo "installing into .bench (about three minutes the first time)"
	$(PYTHON) -m venv .bench
	.bench/bin/python $(INSTALL) $(TORCH)
	.bench/bin/python $(INSTALL) -r benchmarks/requirements.txt
	@touch $@

# New pins of all packages, within the ranges in pyproject.toml; then `make generate` for conda.yaml.
lock:
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet $(TORCH)
	.lock/bin/pip install --quiet .
	.lock/bin/pip freeze --exclude isogloss | sed 's/+[a-z0-9]*$$//' > requirements.txt
	.lock/bin/pip install --quiet '.[dev]'
	{ echo "-r requirements.txt"; .lock/bin/pip freeze --exclude isogloss | sed 's/+[a-z0-9]*$$//' \
		| grep -vxFf requirements.txt; } > requirements-dev.txt
	.lock/bin/pip install --quiet uv
	{ sed -n '/^#/p' requirements-hashes.txt; .lock/bin/uv pip compile --quiet --generate-hashes --no-deps \
		--python-version 3.11 --no-header --no-annotate requirements.txt; } > .lock/hashes
	mv .lock/hashes requirements-hashes.txt
	rm -rf .lock

# Known vulnerabilities of the pinned packages, where PyPI's database answers.
audit:
	test -d .audit || { $(PYTHON) -m venv .audit && .audit/bin/python $(INSTALL) pip-audit; }
	.audit/bin/python -m scripts.audit
