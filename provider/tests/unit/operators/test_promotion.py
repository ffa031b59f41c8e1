"""When a candidate is better, without a server; tests/contract has the rest."""

from __future__ import annotations

import math

import pytest

from mlflow_provider.operators.metric_rule import MetricRule, as_bool, as_number, from_mlflow


@pytest.mark.parametrize(
    ("greater_is_better", "value", "champion_value", "is_better"),
    [
        (False, 0.8, 0.9, True),
        (False, 0.9, 0.8, False),
        (True, 0.9, 0.8, True),
        (True, 0.8, 0.9, False),
        (False, 0.8, 0.8, False),
        (True, 0.8, 0.8, False),
        (True, -2.0, -3.0, True),
        (False, -3.0, -2.0, True),
    ],
)
def test_the_direction_decides(greater_is_better, value, champion_value, is_better):
    rule = MetricRule("score", greater_is_better)

    assert rule.compare("2", value, "1", champion_value)[0] is is_better


@pytest.mark.parametrize(
    ("greater_is_better", "value", "champion_value", "is_better"),
    [
        (True, 0.9, 0.8, True),  # 0.9 - 0.8 < 0.1
        (True, 0.3, 0.2, True),  # 0.3 - 0.2 < 0.1
        (True, 0.899, 0.8, False),
        (False, 0.8, 0.9, True),
        (False, 0.801, 0.9, False),
        (True, 0.01, None, True),  # the first champion
    ],
)
def test_the_minimum_change_may_just_be_reached(greater_is_better, value, champion_value, is_better):
    rule = MetricRule("score", greater_is_better, min_absolute_change=0.1)

    assert rule.compare("2", value, "1", champion_value)[0] is is_better


def test_a_change_below_the_minimum_is_reported():
    rule = MetricRule("rmse", greater_is_better=False, min_absolute_change=500.0)

    assert rule.compare("2", 24_900.0, "1", 25_000.0) == (
        False,
        "rmse 24900 of version 2 is better than 25000 of version 1, but by less than 500.",
    )


@pytest.mark.parametrize(
    ("greater_is_better", "value", "champion_value", "is_accepted"),
    [(True, 0.5, None, True), (True, 0.49, None, False), (False, 0.5, 0.6, True), (False, 0.51, 0.6, False)],
)
def test_the_threshold_itself_is_accepted(greater_is_better, value, champion_value, is_accepted):
    rule = MetricRule("score", greater_is_better, threshold=0.5)

    assert rule.compare("1", value, "0", champion_value)[0] is is_accepted


@pytest.mark.parametrize(
    ("value", "expected"),
    [("NaN", math.nan), ("Infinity", math.inf), (-1.7976931348623157e308, -math.inf), ("0.5", 0.5)],
)
def test_values_from_mlflow_may_be_nan_and_infinity(value, expected):
    assert from_mlflow(value) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("convert", "value", "expected"),
    [
        (as_bool, True, True),
        (as_bool, "True", True),
        (as_bool, "false", False),
        (as_number, None, None),
        (as_number, "None", None),
        (as_number, " ", None),
        (as_number, "0.5", 0.5),
        (as_number, 3, 3.0),
        (as_number, "1e4", 10_000.0),
    ],
)
def test_templates_may_render_values_as_strings(convert, value, expected):
    assert convert("field", value) == expected
