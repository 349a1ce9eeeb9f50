# `make` lists the targets. Needs Python 3.11 to 3.13, git and make; everything else is installed into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash

SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.12 python3.11 python3.13; do $$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
endif
BIN := .venv/bin
READY := .venv/.ready
UV_VERSION := 0.13.9
export PYTHON

# This folder's package comes before any package of the same name on the user's PYTHONPATH.
export PYTHONPATH := src$(if $(value PYTHONPATH),:$(value PYTHONPATH))

.PHONY: help setup repro retrain serve ui schedule test lint format types test-slow test-runs test-folders test-registry test-orchestration test-faults test-team clean lock

help:  ## list the targets; all other commands: .venv/bin/sentiflow --help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## install the locked dependencies into .venv; repeated only if requirements.lock or pyproject.toml changes

# An environment that is not relocatable, or whose Python is missing, is rebuilt: after a copy it would use the original folder.
RELOCATABLE := test -x $(BIN)/python && grep -qs '^relocatable = true' .venv/pyvenv.cfg
ifneq ($(shell $(RELOCATABLE) && echo yes),yes)
  .PHONY: $(READY)
endif

# uv installs the lock file several times faster than pip and checks the same hashes. The project itself is a relative path in a
# .pth file, so that a copied or moved folder imports its own code.
$(READY): requirements.lock pyproject.toml
	@"$$PYTHON" -c '$(SUITABLE)' 2>/dev/null || { \
	  echo "error: Python 3.11, 3.12 or 3.13 is needed, found $$(python3 --version 2>&1); give its path: make PYTHON=/path/to/python3.11 setup" >&2; exit 1; }
	@$(RELOCATABLE) || { \
	  if test -e .venv || test -L .venv; then echo "rebuilding .venv: it is not relocatable, or its Python is missing"; fi; \
	  rm -rf .venv && "$$PYTHON" -m venv .venv; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(RELOCATABLE) || $(BIN)/uv venv --quiet --allow-existing --relocatable --python $(BIN)/python .venv
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@for path in .venv/lib/python*/site-packages/__editable__.sentiflow-*.pth; do echo ../../../../src > "$$path"; done
	@touch $@
	@echo "installed into .venv"

repro:  ## run the pipeline, from reviews to registered models; only stale stages run
retrain:  ## retrain now if there is a reason to
serve:  ## serve the champion over HTTP, at http://127.0.0.1:8000
ui:  ## serve MLflow's UI and Prefect's, at http://127.0.0.1:5000 and :4200 or the next free ports
schedule:  ## retrain on the schedules of prefect.yaml: Prefect's server and a worker, until Ctrl-C
repro retrain serve ui schedule: $(READY)
	@$(BIN)/sentiflow $@

test: $(READY)  ## run the tests that are not slow
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
test-slow: $(READY)  ## run the slow tests: every network and recipe, the registry, MLflow's UI
	@$(BIN)/python -m pytest -m slow
test-runs: $(READY)  ## test whole runs on small samples: three classes, isolated runs, new models
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile tests/integration tests/system/test_three_classes.py tests/system/test_side_runs.py
test-folders: $(READY)  ## test copied, moved and linked folders, and DVC experiments
	@$(BIN)/python -m pytest -m slow tests/system/test_folders.py tests/system/test_moved_project.py tests/system/test_experiments.py
test-registry: $(READY)  ## test the registry on MLflow servers with SQLite and PostgreSQL, and MLflow's UI
	@$(BIN)/python -m pytest -m slow tests/system/test_registry.py tests/system/test_mlflow_ui.py tests/unit/pipeline/test_rebuild.py \
	  tests/system/test_verdicts.py tests/system/test_serving.py
test-orchestration: $(READY)  ## test flows and schedules: Prefect servers (SQLite, PostgreSQL), workers, UI
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --no-loadscope-reorder tests/system/test_orchestration.py \
	  tests/system/test_prefect_ui.py tests/system/test_foreign_pages.py tests/flows
test-faults: $(READY)  ## kill retrainings in every stage, and check that the next run recovers
	@$(BIN)/python -m pytest -m slow tests/system/test_faults.py
test-team: $(READY)  ## test team features: remotes, data versions, hostile input, full disks, verify, services
	@$(BIN)/python -m pytest -m slow tests/system/test_remotes.py tests/system/test_untrusted.py tests/system/test_disk_full.py \
	  tests/system/test_verify.py tests/system/test_secrets.py tests/system/test_team.py tests/unit/sharing/versions \
	  tests/system/test_services.py tests/services

lint: $(READY)  ## check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
format: $(READY)  ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
types: $(READY)  ## check the types
	@$(BIN)/mypy

clean:  ## remove what can be rebuilt: .venv, caches, stage outputs; keeps your reviews, DVC's cache and MLflow's store
	@rm -rf .venv build .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis dvc_plots models plots \
	  data/reviews data/clean.parquet data/splits data/test_set data/tokens data/predictions \
	  reports/models reports/errors reports/explanations reports/explanation.png reports/near_copies.csv reports/report.html reports/decision.html reports/all.html reports/all.md
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf src/*.egg-info

lock:  ## resolve the dependencies of pyproject.toml into requirements.lock
	@$(BIN)/uv pip compile --system-certs pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-header --quiet --output-file requirements.lock
