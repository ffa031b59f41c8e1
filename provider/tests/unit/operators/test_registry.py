"""DAGs written for provider 1.1.0 still work."""

from __future__ import annotations

import pytest

from mlflow_provider.operators import registry

# The operators of 1.1.0: their required arguments, and the defaults of the others.
LEGACY = {
    "CreateRegisteredModelOperator": ({"name"}, {"tags": None, "description": None}),
    "GetRegisteredModelOperator": ({"name"}, {}),
    "DeleteRegisteredModelOperator": ({"name"}, {}),
    "GetLatestModelVersionsOperator": ({"name"}, {"stages": None}),
    "CreateModelVersionOperator": (
        {"name", "source"},
        {"run_id": None, "tags": None, "run_link": None, "description": None},
    ),
    "GetModelVersionOperator": ({"name", "version"}, {}),
    "DeleteModelVersionOperator": ({"name", "version"}, {}),
    "TransitionModelVersionStageOperator": (
        {"name", "version", "stage"},
        {"archive_existing_versions": False},
    ),
}
each_legacy = pytest.mark.parametrize(("name", "required", "defaults"), [(n, *a) for n, a in LEGACY.items()])


@each_legacy
def test_arguments_and_defaults_are_those_of_1_1_0(name, required, defaults):
    operator_class = getattr(registry, name)
    arguments = dict.fromkeys(["mlflow_conn_id", *required, *defaults], "value")
    expected = {"mlflow_conn_id": "mlflow_default", **dict.fromkeys(required, "value"), **defaults}

    by_default = operator_class(task_id="task", **dict.fromkeys(required, "value"))
    operator = operator_class(task_id="task", **arguments)

    assert {name: getattr(by_default, name) for name in expected} == expected
    assert {name: getattr(operator, name) for name in arguments} == arguments


@pytest.mark.parametrize(
    "tags", [{"data": "{{ data }}"}, [{"key": "data", "value": "{{ data }}"}]], ids=["mapping", "list"]
)
def test_templates_are_rendered_inside_tags(tags):
    operator = registry.CreateRegisteredModelOperator(task_id="task", name="model", tags=tags)

    operator.render_template_fields({"data": "housing"})

    assert operator.tags in ({"data": "housing"}, [{"key": "data", "value": "housing"}])


def test_templates_are_rendered_inside_stages():
    operator = registry.GetLatestModelVersionsOperator(task_id="task", name="model", stages=["{{ stage }}"])

    operator.render_template_fields({"stage": "Production"})

    assert operator.stages == ["Production"]
