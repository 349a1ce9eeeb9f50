# `make` lists the targets. Needs Python 3.11 or 3.12, git and make; everything else is installed into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash

SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13; do $$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
UV_VERSION := 0.13.9
PORT ?= 5000

# Nothing here reports home.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup repro all recipes explain test test-slow lint format types ui plots readme clean lock

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## install the locked dependencies into .venv; done again only when requirements.lock changes

# uv installs the lock several times faster than pip and checks the same hashes.
$(READY): requirements.lock
	@"$(PYTHON)" -c '$(SUITABLE)' 2>/dev/null || { \
	  echo "error: Python 3.11, 3.12 or 3.13 is needed, found $$(python3 --version 2>&1); give its path: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "installed into .venv"

repro: $(READY)  ## run the whole pipeline, from reviews to registered models; only what is stale is run
	@$(BIN)/python -m sentiflow.pipeline

all: $(READY)  ## run every architecture beside the default ones, in a folder of its own: reports/all.md and reports/all.html
	@$(BIN)/python -m sentiflow.side all

recipes: $(READY)  ## run the published recipes with their own settings: reports/recipes.md
	@$(BIN)/python -m sentiflow.recipes

# `override` and `value`, so that make expands nothing that stands in a text, a quote or a dollar sign included.
explain: override export TEXT := $(value TEXT)
explain: override export MODEL := $(value MODEL)
explain: override export OUT := $(value OUT)
explain: $(READY)  ## show which words a model goes by: make explain TEXT="..." [MODEL=lstm_attention] [OUT=reports/explanation.png]
	@$(BIN)/python -m sentiflow.explain $(if $(value MODEL),--model "$$MODEL") $(if $(value OUT),--out "$$OUT") -- "$$TEXT"

test: $(READY)  ## run the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)  ## run the tests that take minutes: every architecture and every recipe on a small sample
	@$(BIN)/python -m pytest -m slow

lint: $(READY)  ## check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(READY)  ## put the code into the house's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(READY)  ## check the types
	@$(BIN)/mypy

ui: $(READY)  ## serve MLflow's UI on the project's store at http://127.0.0.1:5000 (another port: make ui PORT=5001)
	@$(BIN)/mlflow server --host 127.0.0.1 --port $(PORT) --backend-store-uri sqlite:///mlflow.db \
	  --allowed-hosts 127.0.0.1:$(PORT),localhost:$(PORT) --x-frame-options DENY --default-artifact-root mlartifacts

plots: $(READY)  ## draw DVC's plots into dvc_plots/index.html
	@$(BIN)/dvc plots show --html-template .dvc/plots/offline.html --out dvc_plots > /dev/null
	@$(BIN)/python -c 'from pathlib import Path; import vl_convert; Path("dvc_plots/vega.js").write_text(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))'
	@echo "wrote dvc_plots/index.html"

readme: $(READY)  ## fill the tables of README.md: the committed comparison, the models
	@$(BIN)/python -m sentiflow.readme

clean:  ## remove what can be rebuilt: environment, caches, outputs of stages; not your reviews, DVC's cache or MLflow's store
	@rm -rf .venv build .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis dvc_plots models plots \
	  data/reviews data/clean.parquet data/splits data/tokens data/predictions \
	  reports/models reports/errors reports/explanations reports/explanation.png reports/report.html reports/all.html reports/all.md
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf src/*.egg-info

lock:  ## resolve the dependencies of pyproject.toml anew into requirements.lock
	@$(BIN)/uv pip compile --system-certs pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-header --quiet --output-file requirements.lock
