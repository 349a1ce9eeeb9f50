# `make` lists the targets. Needs Python 3.11 or 3.12, git and make; everything else is installed into .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash

SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.12 python3.11 python3.13; do $$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
endif
BIN := .venv/bin
READY := .venv/.ready
UV_VERSION := 0.13.9

# What a user may give. `override` and `value`, so that make expands nothing in it; recipes read it from the environment, so that
# the shell does not either.
GIVEN := PYTHON PREFECT_HOME PORT PREFECT_PORT TEXT FILE COLUMN OUT MODEL VERSION REASON COMMIT A B SERVICE MODELS \
  URL ENDPOINT NAME TO FROM FORCE DRY_RUN START SHARED SKIP_REJECTED RESET REMOVE FULL PROMOTE REPAIR SAMPLE TAKE_OVER \
  SIMILARITY
$(foreach name,$(GIVEN),$(if $(value $(name)),$(eval override export $(name) := $$(value $(name)))))

# Nothing here reports home.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
# Prefect's database, schedules and runs stay with the project, and apart from those of others.
export PREFECT_HOME ?= $(CURDIR)/.prefect
export PATH := $(CURDIR)/$(BIN):$(value PATH)
# The package of this folder, before any of the same name in the user's PYTHONPATH.
export PYTHONPATH := src$(if $(value PYTHONPATH),:$(value PYTHONPATH))

.PHONY: help setup repro all recipes explain promote rollback history versions data-versions data-diff near-copies add-reviews rebuild-tracking verify audit serve predict retrain drift remote push pull check-remote check-data hooks test test-slow test-runs test-folders test-registry test-faults test-orchestration test-team figures figures-team figures-registry lint format types ui schedule services services-status secrets member backup restore plots readme clean lock

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## install the locked dependencies into .venv; done again only when requirements.lock or pyproject.toml changes

# An environment that cannot be moved has the path of another folder in it after a copy, or its Python is gone: rebuilt.
RELOCATABLE := test -x $(BIN)/python && grep -qs '^relocatable = true' .venv/pyvenv.cfg
ifneq ($(shell $(RELOCATABLE) && echo yes),yes)
  .PHONY: $(READY)
endif

# uv installs the lock several times faster than pip and checks the same hashes. The project itself is a relative path in a .pth
# file, so that a copied or moved folder imports its own code.
$(READY): requirements.lock pyproject.toml
	@"$$PYTHON" -c '$(SUITABLE)' 2>/dev/null || { \
	  echo "error: Python 3.11, 3.12 or 3.13 is needed, found $$(python3 --version 2>&1); give its path: make PYTHON=/path/to/python3.11 setup" >&2; exit 1; }
	@$(RELOCATABLE) || { \
	  if test -e .venv || test -L .venv; then echo "rebuilding .venv: it only works in the folder and with the Python it was made for"; fi; \
	  rm -rf .venv && "$$PYTHON" -m venv .venv; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(RELOCATABLE) || $(BIN)/uv venv --quiet --allow-existing --relocatable --python $(BIN)/python .venv
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@for path in .venv/lib/python*/site-packages/__editable__.sentiflow-*.pth; do echo ../../../../src > "$$path"; done
	@touch $@
	@echo "installed into .venv"

repro: $(READY)  ## run the whole pipeline, from reviews to registered models; only what is stale is run. A trial: make repro SAMPLE=400
	@$(BIN)/python -m $(if $(value SAMPLE),sentiflow.pipeline.isolated_run sample -- "$$SAMPLE",sentiflow.pipeline.repro)

all: $(READY)  ## run every model of params.yaml, in a folder of its own: reports/all.md and reports/all.html
	@$(BIN)/python -m sentiflow.pipeline.isolated_run all

recipes: $(READY)  ## run the published recipes with their own settings: reports/recipes.md
	@$(BIN)/python -m sentiflow.pipeline.recipes

explain: $(READY)  ## show which words the champion's answer depends on: make explain TEXT="..." [MODEL=lstm] [OUT=reports/explanation.png]
	@$(BIN)/python -m sentiflow.cli.explain $(if $(value MODEL),--model "$$MODEL") $(if $(value OUT),--out "$$OUT") -- "$$TEXT"

DRY := $(if $(filter-out 0,$(DRY_RUN)),--dry-run)

promote: $(READY)  ## make the challenger champion if it passes every rule: make promote [VERSION=3] [FORCE=1 REASON="..."] [DRY_RUN=1]
	@$(BIN)/python -m sentiflow.cli.champion promote --version="$$VERSION" --reason="$$REASON" $(if $(filter-out 0,$(FORCE)),--force) $(DRY)

rollback: $(READY)  ## make the champion before this one champion again: make rollback [REASON="..."] [DRY_RUN=1]
	@$(BIN)/python -m sentiflow.cli.champion rollback $(if $(value REASON),--reason="$$REASON") $(DRY)

history: $(READY)  ## show who was champion from when to when, and why
	@$(BIN)/python -m sentiflow.cli.champion history

versions: $(READY)  ## show the registered versions, or those of a commit: make versions [COMMIT=HEAD]
	@$(BIN)/python -m sentiflow.cli.champion versions --commit="$$COMMIT"

data-versions: $(READY)  ## list the versions of the data over git's history: rows, labels, splits, and what changed
	@$(BIN)/python -m sentiflow.sharing.versions.listing

data-diff: $(READY)  ## show which texts differ between two commits' data: make data-diff [A=HEAD] [B=feature] [OUT=changes.csv]
	@$(BIN)/python -m sentiflow.sharing.versions.diff $(if $(value A),--a="$$A") $(if $(value B),--b="$$B") $(if $(value OUT),--out="$$OUT")

near-copies: $(READY)  ## list near-copies across the splits, and accuracy on test without them: make near-copies [SIMILARITY=0.8]
	@$(BIN)/python -m sentiflow.evaluation.near_copies --similarity="$${SIMILARITY:-0.8}"

add-reviews: $(READY)  ## add reviews to your file as a new version: make add-reviews FILE=new.csv [START=1] [SKIP_REJECTED=1]
	@$(BIN)/python -m sentiflow.sharing.versions.add $(if $(value FILE),--file="$$FILE") $(if $(value COMMIT),--commit="$$COMMIT") \
	  $(if $(filter-out 0,$(START)),--start) $(if $(filter-out 0,$(SKIP_REJECTED)),--skip-rejected)

rebuild-tracking: $(READY)  ## fill an empty MLflow store from git's history and DVC's cache: make rebuild-tracking [DRY_RUN=1]
	@$(BIN)/python -m sentiflow.pipeline.rebuild $(DRY)

verify: $(READY)  ## make a commit's results again in a fresh clone, and compare every hash: make verify [COMMIT=HEAD] [FULL=1]
	@$(BIN)/python -m sentiflow.pipeline.verify $(if $(value COMMIT),--commit="$$COMMIT") $(if $(filter-out 0,$(FULL)),--full)

audit: $(READY)  ## look the locked packages up for known vulnerabilities: make audit [SERVICE=https://api.osv.dev/v1/query]
	@$(BIN)/python -m sentiflow.cli.audit $(if $(value SERVICE),--service="$$SERVICE")

serve: $(READY)  ## answer over HTTP from the champion, at http://127.0.0.1:8000 (another port: make serve PORT=8001)
	@$(BIN)/python -m sentiflow.serving.server --port="$${PORT:-8000}"

predict: $(READY)  ## answer from the champion: make predict TEXT="..." or FILE=reviews.csv [COLUMN=review] [OUT=answers.csv]
	@$(BIN)/python -m sentiflow.serving.predict $(if $(value TEXT),--text="$$TEXT") $(if $(value FILE),--file="$$FILE") \
	  $(if $(value COLUMN),--column="$$COLUMN") $(if $(value OUT),--out="$$OUT") $(if $(value VERSION),--version="$$VERSION")

retrain: $(READY)  ## retrain now if there is a reason to: make retrain [MODELS="lstm gru"] [FORCE=1] [PROMOTE=0]
	@set -f; $(BIN)/python -m flows.retrain $(if $(filter-out 0,$(FORCE)),--force) $(if $(filter 0,$(PROMOTE)),--no-promote) -- $$MODELS

drift: $(READY)  ## compare incoming reviews with what the champion learned from: make drift [FILE=reviews.csv]
	@$(BIN)/python -m sentiflow.serving.drift $(if $(value FILE),--file="$$FILE")

remote: $(READY)  ## set where data and models are shared: make remote [URL=/folder|s3://...|ssh://...|webdavs://...] [ENDPOINT=] [SHARED=1]
	@$(BIN)/python -m sentiflow.sharing.remote --url="$$URL" --endpoint="$$ENDPOINT" --shared="$$SHARED"

push: $(READY)  ## hand data and models of dvc.lock to the remote
	@$(BIN)/python -m sentiflow.sharing.push_pull push

pull: $(READY)  ## bring data and models of dvc.lock from the remote
	@$(BIN)/python -m sentiflow.sharing.push_pull pull

check-remote: $(READY)  ## prove that the remote has every file that a commit names: make check-remote [COMMIT=HEAD]
	@$(BIN)/python -m sentiflow.sharing.check_remote --commit="$$COMMIT"

check-data: $(READY)  ## find damaged files in the cache and on the remote, and heal them: make check-data [REPAIR=0]
	@$(BIN)/python -m sentiflow.sharing.check_data $(if $(filter 0,$(REPAIR)),--only-report)

hooks: $(READY)  ## have git refuse a push of commits whose data the remote lacks
	@$(BIN)/python -m sentiflow.sharing.hooks

test: $(READY)  ## run the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)  ## run the tests that take minutes: every model and recipe, the registry, MLflow's UI
	@$(BIN)/python -m pytest -m slow

test-runs: $(READY)  ## run the tests of further whole runs on small samples: three classes, side runs
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile tests/system/test_three_classes.py tests/system/test_side_runs.py

test-folders: $(READY)  ## run the tests of copied, moved and linked folders, each with its own environment, and of DVC's experiments
	@$(BIN)/python -m pytest -m slow tests/system/test_folders.py tests/system/test_moved_project.py tests/system/test_experiments.py

test-registry: $(READY)  ## run the tests of the registry against MLflow servers on SQLite and PostgreSQL, and of MLflow's UI
	@$(BIN)/python -m pytest -m slow tests/system/test_registry.py tests/system/test_mlflow_ui.py tests/unit/pipeline/test_rebuild.py \
	  tests/system/test_verdicts.py tests/system/test_serving.py

test-orchestration: $(READY)  ## run the tests of the flows and the schedule: real Prefect servers (SQLite, PostgreSQL), workers, UI
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --no-loadscope-reorder tests/system/test_orchestration.py \
	  tests/system/test_prefect_ui.py tests/system/test_foreign_pages.py tests/flows

test-faults: $(READY)  ## kill retrainings in every stage and by every means, and check what the next run makes of it
	@$(BIN)/python -m pytest -m slow tests/system/test_faults.py

test-team: $(READY)  ## run the tests of what a team needs: remotes of each kind, branches and merges of data, hostile input, full disks, stopped databases, proof, secrets, services
	@$(BIN)/python -m pytest -m slow tests/system/test_remotes.py tests/system/test_untrusted.py tests/system/test_disk_full.py \
	  tests/system/test_verify.py tests/system/test_secrets.py tests/system/test_team.py tests/unit/sharing/versions \
	  tests/system/test_services.py tests/services

figures: $(READY)  ## print what killed runs leave behind and what becomes of it, beside plain DVC: docs/resilience.md
	@$(BIN)/python benchmarks/resilience.py

figures-team: $(READY)  ## print what damage, hostile data, full disks and lost services do, beside what the tools do: docs/safety.md
	@failed=; for each in integrity hostile services; do \
	  printf '\n=== benchmarks/%s.py ===\n\n' "$$each"; $(BIN)/python "benchmarks/$$each.py" || failed="$$failed $$each.py"; \
	done; test -z "$$failed" || { echo "error: these did not end well:$$failed" >&2; exit 1; }

figures-registry: $(READY)  ## print what promotions at once, kills and bad requests make of registry and server: docs/safety.md
	@$(BIN)/python benchmarks/registry.py

lint: $(READY)  ## check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(READY)  ## put the code into the house's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(READY)  ## check the types
	@$(BIN)/mypy

ui: $(READY)  ## serve MLflow's UI and Prefect's, at http://127.0.0.1:5000 and :4200 or the next free ports: make ui [PORT=5001] [PREFECT_PORT=4201]
	@$(BIN)/python -m flows.local_servers ui $(if $(value PORT),--port="$$PORT") $(if $(value PREFECT_PORT),--prefect-port="$$PREFECT_PORT")

schedule: $(READY)  ## retrain when prefect.yaml says so: Prefect's server and a worker, until Ctrl-C: make schedule [PREFECT_PORT=4201] [TAKE_OVER=1]
	@$(BIN)/python -m flows.local_servers schedule $(if $(value PREFECT_PORT),--prefect-port="$$PREFECT_PORT") \
	  $(if $(filter-out 0,$(TAKE_OVER)),--take-over)

services: $(READY)  ## serve a team: PostgreSQL, storage, MLflow and Prefect, each with a password, until Ctrl-C
	@$(BIN)/python -m services.team up

services-status: $(READY)  ## ask each service with its password, without and with a wrong one; exit 1 if one is ill
	@$(BIN)/python -m services.team status

secrets: $(READY)  ## write a fresh .env with generated secrets for `make services`; never over one that is there
	@$(BIN)/python -m services.team secrets

member: $(READY)  ## make an account at the services, and print what its owner needs: make member NAME=anna [RESET=1] [REMOVE=1]
	@$(BIN)/python -m services.team member --name="$$NAME" $(if $(filter-out 0,$(RESET)),--reset) $(if $(filter-out 0,$(REMOVE)),--remove)

backup: $(READY)  ## back up databases, artifacts and DVC's remote of the services while they run: make backup [TO=folder]
	@$(BIN)/python -m services.team backup --to="$$TO"

restore: $(READY)  ## bring a backup of the services back where there is nothing yet: make restore FROM=folder
	@$(BIN)/python -m services.team restore --from="$$FROM"

plots: $(READY)  ## draw DVC's plots into dvc_plots/index.html
	@$(BIN)/dvc plots show --html-template .dvc/plots/offline.html --out dvc_plots > /dev/null
	@$(BIN)/python -c 'from pathlib import Path; import vl_convert; Path("dvc_plots/vega.js").write_text(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))'
	@echo "wrote dvc_plots/index.html"

readme: $(READY)  ## fill the tables of README.md: the committed comparison, the models
	@$(BIN)/python -m sentiflow.cli.readme

clean:  ## remove what can be rebuilt: environment, caches, outputs of stages; not your reviews, DVC's cache or MLflow's store
	@rm -rf .venv build .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis dvc_plots models plots \
	  data/reviews data/clean.parquet data/splits data/tokens data/predictions \
	  reports/models reports/errors reports/explanations reports/explanation.png reports/near_copies.csv reports/report.html reports/all.html reports/all.md
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -rf src/*.egg-info

lock:  ## resolve the dependencies of pyproject.toml anew into requirements.lock
	@$(BIN)/uv pip compile --system-certs pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-header --quiet --output-file requirements.lock
