"""Errors and figures of a model on sales that it has not seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from include.evaluation import compute_errors, draw_figures


def test_errors_are_in_the_unit_of_the_price():
    errors = compute_errors(actual=[100_000.0, 200_000.0], predicted=[103_000.0, 196_000.0])
    assert errors == {
        "test_rmse": pytest.approx(np.sqrt((3000**2 + 4000**2) / 2)),
        "test_mae": 3500,
        "test_r2": pytest.approx(1 - (3000**2 + 4000**2) / (2 * 50_000**2)),
    }


def test_draws_three_figures_and_finds_the_feature_that_matters():
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.uniform(1, 2, (50, 2)), columns=["living_area", "year_sold"])
    actual = 1000 * features["living_area"]

    figures = draw_figures(LinearRegression().fit(features, actual), features, actual)

    assert list(figures) == ["predicted_against_actual.png", "residuals.png", "importance.png"]
    [axes] = figures["importance.png"].axes
    widths = [bar.get_width() for bar in axes.patches]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["year sold", "living area"]
    assert widths[0] == pytest.approx(0, abs=1e-6)
    assert widths[1] > 100
