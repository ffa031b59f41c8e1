# Every target sets itself up; it needs only make and python3 >= 3.10. Maintainers' targets: make -C dev help
PYTHON ?= python3

# Without compiled files, importing Airflow takes three times as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo up down status doctor test reset clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo:  ## start everything, run the lessons and the pipeline, check the results in MLflow
	@$(PYTHON) -m local_stack demo

up:  ## start Airflow and MLflow; returns when both answer
	@$(PYTHON) -m local_stack up

down:  ## stop everything; data is kept
	@$(PYTHON) -m local_stack down

status:  ## show what is running, and where
	@$(PYTHON) -m local_stack status

doctor:  ## find out why artifacts get lost between Airflow and MLflow
	@$(PYTHON) -m local_stack doctor

test:  ## for changes to this project: run the tests that need no running stack (six minutes)
	@$(PYTHON) -m local_stack.install
	@MLFLOW_SERVER="$(CURDIR)/.local/mlflow-server/bin/mlflow" \
	    .venv/bin/python -m pytest -q -n 3 --no-loadscope-reorder --durations=15

reset: down  ## stop everything and remove all data: runs, models, artifacts, ports
	@rm -rf .local/data .local/ports.json

clean: down  ## stop everything and remove what was installed; data is kept
	@rm -rf .venv
	@find .local -mindepth 1 -maxdepth 1 ! -name data ! -name ports.json -exec rm -rf {} + 2>/dev/null || true
