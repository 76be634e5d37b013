# The commands of the project; CI calls the same ones. The first of them makes .venv and installs everything there.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
READY := $(VENV)/.ready
# cu130: torch with CUDA 13, whatever lies on this machine; else the build for the CPU, where one is at hand.
TORCH ?= any
HASHED := $(BIN)/python -m pip install --quiet --no-deps --require-hashes
# One test process more than cores, since some tests wait for servers; at most eight: each needs about 2 GB.
AT_ONCE := -n $(shell echo $$(($$(nproc) + 1))) --maxprocesses 8

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-services lint digests format serve lock clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 16

$(READY): requirements.lock requirements-torch.lock pyproject.toml
	@case "$(TORCH)" in any|cu130) ;; *) echo "setup: error: TORCH is any or cu130, not $(TORCH)"; exit 2;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "setup: error: Python 3.11 or newer is needed, $(PYTHON) is older; try make PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "setup: error: $(PYTHON) has no venv module; on Debian and Ubuntu install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@# torch is taken from the build for the CPU if pip has one at hand, else from the registry; it is several gigabytes.
	@sed -n '/^torch==/,/[^\\]$$/p' requirements.lock > $(VENV)/torch.lock
	@{ [ "$(TORCH)" = any ] && $(HASHED) --no-index --requirement $(VENV)/torch.lock 2>/dev/null; } || \
		$(HASHED) --requirement requirements-torch.lock
	$(HASHED) --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

setup: $(READY) ## make .venv with the versions, and from the very files, of requirements.lock

demo: $(READY) ## run all stages on the two demo workspaces
	@$(BIN)/python -m tasks.ops.digests --check
	$(BIN)/dvc repro
	@$(BIN)/python -m tasks.ops.summary

test: $(READY) lint ## make lint, and all tests but the slow ones
	$(BIN)/python -m pytest $(AT_ONCE) -m "not slow" --cov --cov-report=term:skip-covered

# The slow tests run one after the other: they train with all cores, and some measure time and memory.
test-all: test ## make lint, and all tests, with long trainings and real images
	$(BIN)/python -m pytest -m slow --cov --cov-append --cov-report=term:skip-covered

test-services: ## install Orthanc, PostgreSQL and Chromium for the tests (needs root and apt-get)
	@.ci/services

lint: $(READY) ## check style (ruff), types (mypy), imports, and the digests of the stages' code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tasks.ops.digests --check

digests: $(READY) ## after a change of code: update tasks/digests, so that DVC runs the stages concerned
	@$(BIN)/python -m tasks.ops.digests

format: $(READY) ## format the code with ruff, and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

serve: $(READY) ## start Prefect and MLflow on this machine only (PREFECT_PORT, MLFLOW_PORT)
	@$(BIN)/python -m tasks.ops.serve

lock: ## write requirements.lock and requirements-torch.lock anew from pyproject.toml
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet 'pip-tools>=7.6'
	$(VENV)-lock/bin/python tasks/ops/lock.py
	rm -rf $(VENV)-lock

clean: ## remove the tools' caches; data, models and metrics stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
