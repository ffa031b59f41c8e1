"""The sensor's arguments; test_base.py in ../operators has templates and mapping."""

from __future__ import annotations

import pytest

from mlflow_provider.sensors.registry import MLflowModelVersionSensor


@pytest.mark.parametrize(("after_version", "version"), [(None, None), ("", None), (" 3\n", "3"), (3, "3")])
def test_after_version_may_be_a_number_a_string_or_empty(after_version, version):
    sensor = MLflowModelVersionSensor(task_id="wait", name="Housing", after_version=after_version)

    assert sensor._known_version == version


def test_another_after_version_is_an_error():
    sensor = MLflowModelVersionSensor(task_id="wait", name="Housing", after_version="None")

    with pytest.raises(ValueError, match="after_version is 'None'; enter the number of a version"):
        _ = sensor._known_version


def test_deferrable_is_airflows_setting_by_default():
    assert MLflowModelVersionSensor(task_id="wait", name="Housing").deferrable is False
