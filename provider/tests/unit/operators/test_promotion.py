"""When a candidate is better, without a server; tests/contract has the rest."""

from __future__ import annotations

import math

import pytest

from mlflow_provider.operators.promotion import (
    MetricRule,
    PromoteModelVersionOperator,
    as_bool,
    as_float,
    as_number,
)

ERROR = MetricRule("rmse", greater_is_better=False)
SCORE = MetricRule("r2", greater_is_better=True)


@pytest.mark.parametrize(
    ("rule", "value", "champion_value", "is_better"),
    [
        (ERROR, 0.8, 0.9, True),
        (ERROR, 0.9, 0.8, False),
        (SCORE, 0.9, 0.8, True),
        (SCORE, 0.8, 0.9, False),
        (ERROR, 0.8, 0.8, False),
        (SCORE, 0.8, 0.8, False),
        (SCORE, -2.0, -3.0, True),
        (ERROR, -3.0, -2.0, True),
    ],
)
def test_direction_decides(rule, value, champion_value, is_better):
    assert rule.compare("2", value, "1", champion_value)[0] is is_better


@pytest.mark.parametrize(
    ("greater_is_better", "value", "champion_value", "is_better"),
    [
        (True, 0.9, 0.8, True),  # 0.9 - 0.8 < 0.1
        (True, 0.3, 0.2, True),  # 0.3 - 0.2 < 0.1
        (True, 0.899, 0.8, False),
        (False, 0.8, 0.9, True),
        (False, 0.801, 0.9, False),
    ],
)
def test_the_smallest_change_may_be_just_reached(greater_is_better, value, champion_value, is_better):
    rule = MetricRule("score", greater_is_better, min_absolute_change=0.1)

    assert rule.compare("2", value, "1", champion_value)[0] is is_better


def test_a_change_that_is_too_small_is_named():
    rule = MetricRule("rmse", greater_is_better=False, min_absolute_change=500.0)

    assert rule.compare("2", 24_900.0, "1", 25_000.0) == (
        False,
        "rmse 24900 of version 2 is better than 25000 of version 1, but by less than 500.",
    )


@pytest.mark.parametrize(
    ("greater_is_better", "value", "is_held"),
    [(True, 0.5, True), (True, 0.49, False), (False, 0.5, True), (False, 0.51, False)],
)
def test_the_threshold_itself_holds(greater_is_better, value, is_held):
    rule = MetricRule("score", greater_is_better, threshold=0.5)

    assert rule.compare("1", value, None, None)[0] is is_held


def test_the_first_champion_needs_no_smallest_change():
    assert MetricRule("r2", greater_is_better=True, min_absolute_change=0.1).compare("1", 0.01, None, None)[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("NaN", math.nan),
        ("Infinity", math.inf),
        (-1.7976931348623157e308, -math.inf),
        (0.5, 0.5),
        ("0.5", 0.5),
    ],
)
def test_values_are_read_as_mlflow_means_them(value, expected):
    assert as_float(value) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), ("True", True), ("false", False), (False, False)]
)
def test_truth_may_be_a_string(value, expected):
    assert as_bool("wait_for_approval", value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("None", None), (" ", None), ("0.5", 0.5), (3, 3.0), ("1e4", 10_000.0)],
)
def test_a_number_may_be_a_string_or_missing(value, expected):
    assert as_number("threshold", value) == expected


def test_what_is_to_happen_with_rejected_versions_is_checked_when_the_dag_is_parsed():
    with pytest.raises(ValueError, match=r"^if_rejected is 'stop'; enter skip, fail or continue\.$"):
        PromoteModelVersionOperator(
            task_id="gate",
            name="Housing",
            version="1",
            metric="r2",
            greater_is_better=True,
            if_rejected="stop",
        )
