"""What needs no server: templates, mapping, defaults."""

from __future__ import annotations

import pytest
from airflow.sdk import DAG

from mlflow_provider.sensors.registry import MLflowModelVersionSensor


def test_templates_are_rendered():
    fields = MLflowModelVersionSensor.template_fields
    sensor = MLflowModelVersionSensor(task_id="wait", **dict.fromkeys(fields, "{{ value }}"))

    sensor.render_template_fields({"value": "7"})

    assert set(fields) == {"mlflow_conn_id", "name", "alias", "after_version"}
    assert [getattr(sensor, field) for field in fields] == ["7"] * 4


def test_one_sensor_waits_for_each_of_many_models():
    with DAG("dag"):
        mapped = MLflowModelVersionSensor.partial(task_id="wait", deferrable=True).expand(name=["a", "b"])

    assert mapped.operator_class is MLflowModelVersionSensor


@pytest.mark.parametrize(("given", "known"), [(None, None), ("", None), (" 3\n", "3"), (3, "3")])
def test_a_known_version_may_be_a_number_or_its_text_or_nothing(given, known):
    assert (
        MLflowModelVersionSensor(task_id="wait", name="Housing", after_version=given)._known_version == known
    )


def test_a_known_version_that_is_no_number_is_told():
    sensor = MLflowModelVersionSensor(task_id="wait", name="Housing", after_version="None")

    with pytest.raises(ValueError, match="after_version is 'None'; enter the number of a version"):
        _ = sensor._known_version


def test_it_waits_as_airflow_is_told_to_by_default():
    assert MLflowModelVersionSensor(task_id="wait", name="Housing").deferrable is False
