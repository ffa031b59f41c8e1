"""A task ends as it should, even with a version of mlflow that has renamed or changed a private name."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest

from mlflow_provider import task_run
from mlflow_provider.doctor import examine
from mlflow_provider.process import mlflow_private
from mlflow_provider.process.mlflow_private import PrivateName

VARIABLES = {value: name for name, value in vars(mlflow_private).items() if isinstance(value, PrivateName)}


@pytest.fixture(params=VARIABLES, ids=VARIABLES.get)
def private_name(request):
    return request.param


@pytest.fixture(params=["renamed", "changed"])
def changed(request, monkeypatch, private_name):
    """A version of mlflow in which a private name is missing, or is something else."""
    monkeypatch.setitem(sys.modules, "another_mlflow", SimpleNamespace(changed="something else"))
    path = "another_mlflow.changed" if request.param == "changed" else f"{private_name.path}_renamed"
    monkeypatch.setattr(mlflow_private, VARIABLES[private_name], replace(private_name, path=path))
    mlflow_private._logged.clear()
    return private_name


def test_there_are_at_most_eight():
    assert len(VARIABLES) <= 8


def test_this_mlflow_has_it(private_name):
    try:
        private_name.get()
    except AttributeError:
        import_module(private_name.path)


def test_a_tracked_task_runs_to_its_end(changed, a_try, runs, experiment, caplog):
    import mlflow

    with task_run(context=a_try.context, experiment=experiment, autolog=True) as active:
        mlflow.log_metric("rmse", 0.5)
        with mlflow.start_run(run_name="ridge") as run:
            mlflow.log_param("alpha", 1)
        assert run.info.run_id == active.info.run_id

    [run] = runs()
    assert (run.info.run_name, run.info.status) == ("ridge", "FINISHED")
    assert (run.data.params["alpha"], run.data.metrics["rmse"]) == ("1", 0.5)
    mentions = [record.getMessage() for record in caplog.records if changed.without in record.getMessage()]
    assert len(mentions) <= 1
    assert all(record.levelno < logging.ERROR for record in caplog.records)


@pytest.mark.parametrize("private_name", [mlflow_private.ARTIFACT_REPOSITORY], indirect=True)
@pytest.mark.usefixtures("mlflow_default", "changed")
def test_the_doctor_finishes_its_checks():
    assert {result.status for result in examine()} <= {"ok", "skipped"}
