# Every target does its own set-up; python3 >= 3.10 and make are all it takes.
PYTHON ?= python3

# Without compiled files at hand, importing Airflow takes three times as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo up down status doctor clean reset test stack-test faults lifecycle-test docker-test celery-test kubernetes-test matrix bench load check package reference shots lock bump

help:  ## list the targets
	@awk -F ':.*## |^##@ ' '/^##@ / { printf "\n%s\n", $$2 } /^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' \
	    $(MAKEFILE_LIST)

##@ To use it

demo:  ## start everything, run the lessons and the pipeline, check what arrived in MLflow
	@$(PYTHON) -m local_stack demo

up:  ## start Airflow and MLflow; returns when both answer
	@$(PYTHON) -m local_stack up

status:  ## show what runs, and where
	@$(PYTHON) -m local_stack status

doctor:  ## find out why artifacts get lost between Airflow and MLflow
	@$(PYTHON) -m local_stack doctor

down:  ## stop everything; the data stay
	@$(PYTHON) -m local_stack down

reset: down  ## stop everything, and remove all data: runs, models, artifacts, ports
	@rm -rf .local/data .local/ports.json

clean: down  ## stop everything, and remove what was installed; the data stay
	@rm -rf .venv
	@find .local -mindepth 1 -maxdepth 1 ! -name data ! -name ports.json -exec rm -rf {} + 2>/dev/null || true

##@ To test it

test:  ## run the tests of the provider, the DAGs and all else that needs no stack
	@$(PYTHON) -m local_stack.install
	@.venv/bin/python -m pytest -q -n 3 --no-loadscope-reorder --durations=15

stack-test:  ## start the stack as a newcomer does, and test it, also with a browser
	@$(PYTHON) -m local_stack.install
	@.venv/bin/python -m pytest --durations=30 tests/stack

faults:  ## make everything happen that goes wrong at users, and write docs/faults.md
	@$(PYTHON) -m local_stack.install
	@.venv/bin/python -m dev.tools.faults

lifecycle-test:  ## install, start, stop, upgrade and upset the stack, and see that it takes it
	@$(PYTHON) -m local_stack.install
	@.venv/bin/python -m pytest --durations=10 tests/lifecycle

docker-test:  ## run the Docker stack as `astro dev start` does, and test it
	@$(PYTHON) -m local_stack.install
	@.venv/bin/python -m pytest -v -s --timeout=1200 tests/docker

celery-test:  ## run it with Celery's workers, and test and upset it
	@$(PYTHON) -m local_stack.install
	@EXECUTOR=celery .venv/bin/python -m pytest -v -s --timeout=1200 --durations=10 tests/executors

kubernetes-test:  ## run it on a Kubernetes, a pod for each task, and test and upset it
	@$(PYTHON) -m local_stack.install
	@EXECUTOR=kubernetes .venv/bin/python -m pytest -v -s --timeout=1800 --durations=10 tests/executors

matrix:  ## run the provider's tests with the oldest, newest and next of all it supports
	@$(PYTHON) -m local_stack.install
	@MLFLOW_SERVER="$(CURDIR)/.local/mlflow-server/bin/mlflow" .venv/bin/nox --noxfile provider/noxfile.py \
	    --envdir "$(CURDIR)/.local/nox" --sessions "tests$(if $(CORNER),($(CORNER)))"

bench:  ## measure what all of it costs, and write docs/benchmarks.md
	@$(PYTHON) -m local_stack.install
	@.venv/bin/python -m dev.benchmarks $(ONLY)

load:  ## measure MLflow with many callers, runs and artifacts, and write docs/load.md
	@$(PYTHON) -m local_stack.install
	@.venv/bin/python -m dev.benchmarks.load $(ONLY)

##@ To work on it

check:  ## lint, formatting and types
	@$(PYTHON) -m local_stack.install
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

package:  ## build the provider's sdist and wheel, and check them
	@$(PYTHON) -m local_stack.install
	@.venv/bin/nox --noxfile provider/noxfile.py --envdir "$(CURDIR)/.local/nox" --sessions package

reference:  ## write the provider's API reference as HTML
	@$(PYTHON) -m local_stack.install
	@.venv/bin/python -W ignore -m dev.tools.reference

shots:  ## take README's pictures anew, with a browser that follows README
	@$(PYTHON) -m local_stack.install
	@SHOTS=docs/pictures .venv/bin/python -m pytest dev/tests/stack/test_walk.py

lock:  ## pin every version anew in constraints.txt
	@$(PYTHON) -m local_stack.install
	@.venv/bin/uv pip compile -q --universal --python-version 3.10 --upgrade --no-annotate --no-emit-index-url \
	    --custom-compile-command "make lock" -o constraints.txt requirements.txt provider/pyproject.toml \
	    --group airflow --group mlflow-server --group local-stack --group dev

bump:  ## bring packages and images to the newest versions that fit, and say what proves them
	@$(PYTHON) -m local_stack.install
	@.venv/bin/python -m dev.tools.bump
