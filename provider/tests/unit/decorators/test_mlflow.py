"""``@task.mlflow`` in a DAG file: its arguments and its operator."""

from __future__ import annotations

import pytest
from airflow.sdk import DAG, task

from mlflow_provider.decorators.mlflow import MLflowDecoratedOperator


@task.mlflow
def train(alpha: float = 1.0):
    pass


def test_the_decorator_takes_no_arguments_or_all_of_its_arguments():
    arguments = {
        "mlflow_conn_id": "mlflow_remote",
        "experiment": "Housing",
        "run_name": "Ridge",
        "tags": {"kind": "linear"},
        "nested": True,
        "autolog": {"log_models": False},
        "on_tracking_error": "warn",
    }

    with DAG("housing", schedule=None) as dag:
        train()
        task.mlflow(task_id="tuned", **arguments)(train.function)()

    assert isinstance(dag.get_task("train"), MLflowDecoratedOperator)
    tuned = dag.get_task("tuned")
    assert {name: getattr(tuned, name) for name in arguments} == arguments


def test_connection_experiment_name_and_tags_are_templated():
    with DAG("housing", schedule=None) as dag:
        train.override(
            task_id="train",
            mlflow_conn_id="{{ model }}",
            experiment="{{ model }}",
            run_name="{{ model }}",
            tags={"kind": "{{ model }}"},
        )(alpha="{{ model }}")
    operator = dag.get_task("train")

    operator.render_template_fields({"model": "ridge"})

    assert (operator.mlflow_conn_id, operator.experiment, operator.run_name) == ("ridge",) * 3
    assert operator.tags == {"kind": "ridge"}
    assert operator.op_kwargs == {"alpha": "ridge"}


def test_mapped_tasks_keep_their_arguments():
    with DAG("housing", schedule=None) as dag:
        train.override(nested=True).expand(alpha=[0.1, 1.0])

    assert dag.get_task("train").partial_kwargs["nested"] is True


@pytest.mark.parametrize("choice", ["retry", "on_tracking_error"])
def test_an_unknown_choice_is_rejected_when_the_dag_is_parsed(choice):
    with DAG("housing", schedule=None), pytest.raises(ValueError, match=f"^{choice} is 'never'; choose "):
        train.override(**{choice: "never"})()
