"""Airflow can construct, template and map every operator and sensor of the package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from datetime import datetime, timezone

import pytest
from airflow.sdk import DAG
from airflow.sdk.execution_time import macros
from jinja2 import UndefinedError
from jinja2.exceptions import SecurityError

from mlflow_provider import operators, sensors
from mlflow_provider.operators.base import MLflowBaseOperator
from mlflow_provider.operators.deployment import PredictOperator
from mlflow_provider.operators.pyfunc import ModelLoadAndPredictOperator


def operator_classes() -> list[type[MLflowBaseOperator]]:
    """All operators and sensors, so that new ones are tested automatically."""
    modules = [
        importlib.import_module(f"{package.__name__}.{module.name}")
        for package in (operators, sensors)
        for module in pkgutil.iter_modules(package.__path__)
        if module.name != "base"
    ]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, MLflowBaseOperator)
        and value.__module__ == module.__name__
    ]


each_operator = pytest.mark.parametrize(
    "operator_class", operator_classes(), ids=lambda operator_class: operator_class.__name__
)


def arguments(operator_class: type[MLflowBaseOperator], value: str) -> dict[str, str]:
    """A value for each required argument and each template field."""
    parameters = inspect.signature(operator_class.__init__).parameters.values()
    required = [
        parameter.name
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    ]
    return dict.fromkeys([*operator_class.template_fields, *required], value)


@pytest.fixture
def dag():
    with DAG(
        "housing",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
        default_args={"mlflow_conn_id": "mlflow_of_the_dag"},
    ) as dag:
        yield dag


@pytest.mark.parametrize(
    ("operator_class", "choice"),
    [
        (operator_class, parameter)
        for operator_class in operator_classes()
        for parameter in inspect.signature(operator_class.__init__).parameters
        if parameter in ("if_exists", "if_rejected")
    ],
)
def test_an_unknown_choice_is_rejected_when_the_dag_is_parsed(operator_class, choice):
    with pytest.raises(ValueError, match=rf"^{choice} is 'stop'; choose .*'fail'.*\.$"):
        operator_class(task_id="task", **arguments(operator_class, "x"), **{choice: "stop"})


@each_operator
def test_templates_are_rendered_in_every_template_field(operator_class, dag):
    operator = operator_class(task_id="task", **arguments(operator_class, "{{ team }}-{{ params.stage }}"))

    operator.render_template_fields({"team": "housing", "params": {"stage": "test"}})

    rendered = {name: getattr(operator, name) for name in operator_class.template_fields}
    assert rendered == dict.fromkeys(operator_class.template_fields, "housing-test")


@each_operator
def test_numbers_of_native_templates_become_text(operator_class, dag):
    dag.render_template_as_native_obj = True
    operator = operator_class(task_id="task", **arguments(operator_class, "{{ ds_nodash }}"))

    operator.render_template_fields({"ds_nodash": "20260101"})
    operator.pre_execute({})

    text = {name: getattr(operator, name) for name in operator.template_fields}
    assert text == dict.fromkeys(operator.template_fields, "20260101")


@each_operator
@pytest.mark.parametrize(
    "template",
    [
        "{{ environ['SECRET'] }}",
        "{{ os.environ['SECRET'] }}",
        "{{ macros.ds_add.__globals__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
    ],
)
def test_templates_cannot_read_the_environment(operator_class, template, dag, monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    operator = operator_class(task_id="task", **arguments(operator_class, template))

    with pytest.raises((SecurityError, UndefinedError)):
        operator.render_template_fields({"macros": macros, "params": {}})


@pytest.mark.parametrize(
    ("operator_class", "data"), [(ModelLoadAndPredictOperator, "data"), (PredictOperator, "inputs")]
)
def test_data_is_rendered_but_not_shown(operator_class, data, dag):
    operator = operator_class(task_id="task", **arguments(operator_class, "{{ team }}"))

    operator.render_template_fields({"team": "housing"})

    assert getattr(operator, data) == "housing"
    assert set(operator.template_fields) == set(operator_class.template_fields) - {data}


@each_operator
def test_required_arguments_and_the_connection_are_template_fields(operator_class):
    assert "mlflow_conn_id" in operator_class.template_fields
    assert set(arguments(operator_class, "")) == set(operator_class.template_fields)


@each_operator
def test_an_operator_may_be_mapped_over_every_template_field(operator_class, dag):
    for field in operator_class.template_fields:
        partial = arguments(operator_class, "same for all")
        del partial[field]

        mapped = operator_class.partial(task_id=f"by_{field}", **partial).expand(
            **{field: ["first", "second"]}
        )
        second = mapped.unmap({field: "second"})

        assert isinstance(second, operator_class)
        assert {name: getattr(second, name) for name in operator_class.template_fields} == {
            **partial,
            field: "second",
        }


@each_operator
def test_the_connection_may_come_from_the_dags_default_args(operator_class, dag):
    without_connection = arguments(operator_class, "value")
    del without_connection["mlflow_conn_id"]

    operator = operator_class(task_id="task", **without_connection)

    assert operator.mlflow_conn_id == operator.hook.mlflow_conn_id == "mlflow_of_the_dag"


@each_operator
def test_the_hook_uses_the_rendered_connection(operator_class):
    operator = operator_class(task_id="task", **arguments(operator_class, "mlflow_{{ stage }}"))

    operator.render_template_fields({"stage": "prod"})

    assert operator.hook.mlflow_conn_id == "mlflow_prod"
