# Every target does its own set-up; python3 >= 3.10 and make are all it takes.
PYTHON ?= python3

# Without compiled files at hand, importing Airflow takes three times as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo up down status clean reset test lifecycle-test docker-test matrix package reference check bench lock

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo:  ## start everything, run the four example DAGs, check what arrived in MLflow
	@$(PYTHON) -m local demo

up:  ## start Airflow and MLflow; returns when both answer
	@$(PYTHON) -m local up

down:  ## stop everything; the data stays
	@$(PYTHON) -m local down

status:  ## show what runs, and where
	@$(PYTHON) -m local status

clean: down  ## stop everything, and remove what was installed; the data stay
	@rm -rf .venv
	@find .local -mindepth 1 -maxdepth 1 ! -name data ! -name ports.json -exec rm -rf {} + 2>/dev/null || true

reset: down  ## stop everything, and remove all data: DAG runs, MLflow runs, models, artifacts, ports
	@rm -rf .local/data .local/ports.json

test:  ## run the tests of the provider, the DAGs and the running stack
	@$(PYTHON) -m local.install
	@.venv/bin/python -m pytest -q -n 3 --no-loadscope-reorder --durations=15

lifecycle-test:  ## install, start, stop, upgrade and upset the stack, and see that it takes it
	@$(PYTHON) -m local.install
	@.venv/bin/python -m pytest --durations=10 tests/lifecycle

docker-test:  ## run the Docker stack as `astro dev start` does, and test it
	@$(PYTHON) -m local.install
	@.venv/bin/python -m pytest -v -s --timeout=1200 tests/docker

matrix:  ## run the provider's tests from the oldest Python, Airflow and MLflow it supports to the next
	@$(PYTHON) -m local.install
	@MLFLOW_SERVER="$(CURDIR)/.local/mlflow-server/bin/mlflow" .venv/bin/nox --noxfile provider/noxfile.py \
	    --envdir "$(CURDIR)/.local/nox" --sessions "tests$(if $(CORNER),($(CORNER)))"

package:  ## build the provider's sdist and wheel, and check them
	@$(PYTHON) -m local.install
	@.venv/bin/nox --noxfile provider/noxfile.py --envdir "$(CURDIR)/.local/nox" --sessions package

reference:  ## write the provider's API reference, as HTML, to .local/reference
	@$(PYTHON) -m local.install
	@.venv/bin/python -W ignore -m pdoc --docformat restructuredtext --output-directory .local/reference mlflow_provider

check:  ## lint, formatting and types
	@$(PYTHON) -m local.install
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

lock:  ## pin every version anew in constraints.txt
	@$(PYTHON) -m local.install
	@.venv/bin/uv pip compile -q --universal --python-version 3.10 --upgrade --no-annotate --no-emit-index-url \
	    --custom-compile-command "make lock" -o constraints.txt requirements.txt provider/pyproject.toml \
	    --group airflow --group mlflow-server --group local --group dev

bench:  ## measure what the DAG files cost to parse, what tracking costs a task, and what predicting costs
	@$(PYTHON) -m local.install
	@.venv/bin/python benchmarks/parse_dags.py
	@.venv/bin/python benchmarks/tracked_tasks.py
	@.venv/bin/python benchmarks/predict.py
