"""The grid that the trigger dialog describes, and its regressors."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from include.regressors import LINEAR, TREES, describe, make_grid, make_regressor


def test_the_grid_has_alphas_for_linear_regressors_and_depths_for_trees():
    assert make_grid(["ridge", "random_forest"], alphas=[1.0, 10.0], depths=[3, 5], trees=50) == [
        {"regressor": "ridge", "alpha": 1.0},
        {"regressor": "ridge", "alpha": 10.0},
        {"regressor": "random_forest", "max_depth": 3, "n_estimators": 50},
        {"regressor": "random_forest", "max_depth": 5, "n_estimators": 50},
    ]


def test_a_regressor_that_is_not_chosen_needs_no_values():
    assert make_grid(["lasso"], alphas=[1.0], depths=[], trees=50) == [{"regressor": "lasso", "alpha": 1.0}]


@pytest.mark.parametrize("chosen", [{"regressors": []}, {"alphas": []}])
def test_a_choice_without_a_combination_is_an_empty_grid(chosen):
    assert make_grid(**{"regressors": ["ridge"], "alphas": [1.0], "depths": [3], "trees": 50} | chosen) == []


def test_the_grid_may_have_hundreds_of_configurations():
    grid = make_grid([*LINEAR, *TREES], alphas=np.geomspace(0.1, 100, 200), depths=range(1, 31), trees=10)
    assert len({describe(**configuration) for configuration in grid}) == 2 * 200 + 2 * 30


@pytest.mark.parametrize("configuration", make_grid([*LINEAR, *TREES], [1.0], [3], trees=5), ids=str)
def test_each_regressor_learns_the_same_every_time(configuration):
    x = np.arange(40.0).reshape(20, 2)
    y = x.sum(axis=1) ** 2
    first, second = (make_regressor(**configuration).fit(x, y).predict(x) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.corrcoef(first, y)[0, 1] > 0.9


def test_the_configuration_reaches_the_estimator():
    ridge = make_regressor("ridge", alpha=10.0)
    assert isinstance(ridge, Ridge)
    assert ridge.alpha == 10.0


def test_a_configuration_has_a_name_for_people():
    assert describe("ridge", alpha=10.0) == "ridge, alpha=10.0"
