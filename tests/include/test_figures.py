"""The figures show what they say, with units, and leave no state behind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from include import figures
from include.figures import BLUE, VERMILLION, feature_importance, predicted_against_actual, residuals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
# As a test set has them: another index than 0, 1, 2, which predictions do not have.
ACTUAL = pd.Series([100_000.0, 200_000.0, 450_000.0], index=[7, 11, 30])
PREDICTED = np.array([110_000.0, 190_000.0, 300_000.0])


def points(figure: Figure) -> list[list[float]]:
    return figure.axes[0].collections[0].get_offsets().tolist()


def tick_labels(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    axes = figure.axes[0]
    return [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]


@pytest.fixture(params=["predicted_against_actual", "residuals", "feature_importance"])
def figure(request: pytest.FixtureRequest) -> Figure:
    if request.param == "feature_importance":
        return feature_importance(["lot_area", "year_sold"], [20_000, 1_000])
    return getattr(figures, request.param)(ACTUAL, PREDICTED)


def test_a_figure_has_a_title_units_and_prices_that_are_read_at_a_glance(figure):
    assert figure.axes[0].get_title() or figure.get_suptitle()
    assert "USD" in figure.axes[0].get_xlabel()
    assert any(label.endswith("0,000") for label in tick_labels(figure))


def test_a_figure_becomes_a_picture(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")


def test_a_sale_lies_at_its_actual_and_its_predicted_price():
    figure = predicted_against_actual(ACTUAL, PREDICTED)
    assert points(figure) == [[100_000, 110_000], [200_000, 190_000], [450_000, 300_000]]
    [line] = figure.axes[0].lines
    assert (line.get_slope(), line.get_label()) == (1, "predicted = actual")


def test_a_house_sold_above_its_prediction_has_a_residual_above_zero():
    assert points(residuals(ACTUAL, PREDICTED)) == [[110_000, -10_000], [190_000, 10_000], [300_000, 150_000]]


def test_residuals_are_shown_against_what_one_asks_for():
    area = pd.Series([800.0, 1_500.0, 4_200.0], index=ACTUAL.index)
    figure = residuals(ACTUAL, PREDICTED, against=area, label="Living area (square feet)")
    assert points(figure) == [[800, -10_000], [1_500, 10_000], [4_200, 150_000]]
    assert figure.axes[0].get_xlabel() == "Living area (square feet)"


def test_residuals_are_counted():
    histogram = residuals(ACTUAL, PREDICTED).axes[1]
    assert sum(bar.get_width() for bar in histogram.patches) == len(ACTUAL)


def test_the_most_important_feature_is_at_the_top():
    figure = feature_importance(["lot_area", "living_area", "year_sold"], [20_000, 50_000, -10])
    figure.draw_without_rendering()
    bars = {
        label.get_text(): bar.get_width()
        for label, bar in zip(figure.axes[0].get_yticklabels(), figure.axes[0].patches, strict=True)
    }
    assert list(bars.items()) == [("year sold", -10), ("lot area", 20_000), ("living area", 50_000)]


def test_the_colours_differ_in_brightness_too():
    from matplotlib.colors import to_rgb

    blue, vermillion = (np.dot(to_rgb(colour), [0.2126, 0.7152, 0.0722]) for colour in (BLUE, VERMILLION))
    assert vermillion - blue > 0.05


def test_no_figure_is_kept_and_importing_the_module_imports_nothing_heavy():
    script = """
import sys
from include.figures import predicted_against_actual
assert not {"matplotlib", "numpy"} & set(sys.modules)
predicted_against_actual([1.0], [2.0])
assert "matplotlib.pyplot" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
