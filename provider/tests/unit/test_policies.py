"""Beside what the DAG's author has asked for, the end of a DAG run closes what was left open."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.bases.decorator import task_decorator_factory

from mlflow_provider import policies as policy
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
    policy.dag_policy(dag)
    success, failure = (
        [callback.keywords["mlflow_conn_id"] for callback in callbacks or []]
        for callbacks in (dag.on_success_callback, dag.on_failure_callback)
    )
    assert success == failure
    return success


@pytest.mark.parametrize("given", [None, notify, [notify]])
@each_end
def test_a_dag_with_the_decorator_gets_the_callback(given, end):
    with DAG("housing", schedule=None, **{f"on_{end}_callback": given}) as dag:
        train.override(mlflow_conn_id="mlflow_remote").expand(alpha=[0.1, 1.0])
        train.override(mlflow_conn_id="mlflow_remote")()

    policy.dag_policy(dag)

    *before, close = getattr(dag, f"on_{end}_callback")
    assert before == ([] if given is None else [notify])
    assert close.keywords == {"mlflow_conn_id": "mlflow_remote"}
    assert getattr(dag, f"has_on_{end}_callback") is True


def test_another_dag_is_left_alone(dag):
    task(train.function)()

    assert closed(dag) == []
    assert dag.has_on_failure_callback is False


@pytest.mark.parametrize("conn_id", ["{{ params.server }}", "{% if a %}b{% endif %}", None, 5, choose])
def test_a_connection_that_only_the_task_knows_is_passed_over(dag, conn_id):
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
def test_an_expanded_connection_is_passed_over(dag, expand):
    arguments = {"python_callable": notify, "op_args": [], "op_kwargs": {}}
    expand(MLflowDecoratedOperator.partial(task_id="train", **arguments))

    assert closed(dag) == []


def test_a_subclass_counts_and_so_do_default_args():
    class Train(MLflowDecoratedOperator):
        pass

    with DAG("housing", schedule=None, default_args={"mlflow_conn_id": "mlflow_dag"}) as dag:
        decorate = task_decorator_factory(train.function, decorated_operator_class=Train)
        decorate.expand(alpha=[0.1])
        decorate.override(mlflow_conn_id="mlflow_remote")()

    assert closed(dag) == ["mlflow_dag", "mlflow_remote"]


def test_the_setting_switches_it_off(dag, monkeypatch):
    monkeypatch.setenv("AIRFLOW__MLFLOW__CLOSE_OPEN_RUNS", "False")
    train()

    assert closed(dag) == []


def test_what_it_does_not_understand_is_logged_and_breaks_no_dag(dag, monkeypatch, caplog):
    monkeypatch.setenv("AIRFLOW__MLFLOW__CLOSE_OPEN_RUNS", "maybe")
    train()

    with caplog.at_level(logging.WARNING):
        assert closed(dag) == []

    assert "DAG housing" in caplog.text


def test_airflow_loads_it_while_it_is_itself_being_imported():
    subprocess.run([sys.executable, "-c", "import mlflow_provider.server.connection"], check=True)
