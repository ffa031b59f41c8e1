"""The end of a DAG run closes open MLflow runs, in addition to the callbacks of the DAG's author."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.bases.decorator import task_decorator_factory

from mlflow_provider import policies
from mlflow_provider.decorators.mlflow import MLflowDecoratedOperator

each_end = pytest.mark.parametrize("end", ["success", "failure"])


@task.mlflow
def train(alpha: float = 1.0):
    pass


@task
def choose():
    return "mlflow_remote"


def notify(context):
    pass


@pytest.fixture
def dag():
    with DAG("housing", schedule=None) as dag:
        yield dag


def closed(dag: DAG) -> list[str]:
    """The connections whose open runs the end of a DAG run closes."""
    policies.dag_policy(dag)
    success, failure = (
        [callback.keywords["mlflow_conn_id"] for callback in callbacks or []]
        for callbacks in (dag.on_success_callback, dag.on_failure_callback)
    )
    assert success == failure
    return success


@pytest.mark.parametrize("callback", [None, notify, [notify]])
@each_end
def test_a_dag_with_the_decorator_gets_the_callback(callback, end):
    with DAG("housing", schedule=None, **{f"on_{end}_callback": callback}) as dag:
        train.override(mlflow_conn_id="mlflow_remote").expand(alpha=[0.1, 1.0])
        train.override(mlflow_conn_id="mlflow_remote")()

    policies.dag_policy(dag)

    *callbacks, close = getattr(dag, f"on_{end}_callback")
    assert callbacks == ([] if callback is None else [notify])
    assert close.keywords == {"mlflow_conn_id": "mlflow_remote"}
    assert getattr(dag, f"has_on_{end}_callback") is True


def test_a_dag_without_tracked_tasks_does_not_change(dag):
    task(train.function)()

    assert closed(dag) == []
    assert dag.has_on_failure_callback is False


@pytest.mark.parametrize("conn_id", ["{{ params.server }}", "{% if a %}b{% endif %}", None, 5, choose])
def test_a_connection_that_only_the_task_knows_is_skipped(dag, conn_id):
    train.override(mlflow_conn_id=conn_id() if conn_id is choose else conn_id)()
    train.override(mlflow_conn_id="mlflow_known")()

    assert closed(dag) == ["mlflow_known"]


@pytest.mark.parametrize(
    "expand",
    [
        lambda mapped: mapped.expand(mlflow_conn_id=["mlflow_eu", "mlflow_us"]),
        lambda mapped: mapped.expand_kwargs([{"mlflow_conn_id": "mlflow_eu"}]),
        lambda mapped: mapped.expand_kwargs(choose()),
    ],
)
def test_a_mapped_connection_is_skipped(dag, expand):
    arguments = {"python_callable": notify, "op_args": [], "op_kwargs": {}}
    expand(MLflowDecoratedOperator.partial(task_id="train", **arguments))

    assert closed(dag) == []


def test_subclasses_and_default_args_are_recognized():
    class Train(MLflowDecoratedOperator):
        pass

    with DAG("housing", schedule=None, default_args={"mlflow_conn_id": "mlflow_dag"}) as dag:
        decorate = task_decorator_factory(train.function, decorated_operator_class=Train)
        decorate.expand(alpha=[0.1])
        decorate.override(mlflow_conn_id="mlflow_remote")()

    assert closed(dag) == ["mlflow_dag", "mlflow_remote"]


def test_running_it_twice_changes_nothing(dag):
    train()

    assert closed(dag) == closed(dag) == ["mlflow_default"]


@pytest.mark.parametrize("setting", ["CLOSE_OPEN_RUNS", "ENABLED"])
def test_a_setting_disables_it(dag, monkeypatch, setting):
    monkeypatch.setenv(f"AIRFLOW__MLFLOW__{setting}", "False")
    train()

    assert closed(dag) == []


def test_an_error_is_logged_and_breaks_no_dag(dag, monkeypatch, caplog):
    monkeypatch.setenv("AIRFLOW__MLFLOW__CLOSE_OPEN_RUNS", "maybe")
    train()

    with caplog.at_level(logging.WARNING):
        assert closed(dag) == []

    assert "DAG housing" in caplog.text


def test_airflow_loads_it_while_the_provider_is_being_imported():
    subprocess.run([sys.executable, "-c", "import mlflow_provider.server.connection"], check=True)
