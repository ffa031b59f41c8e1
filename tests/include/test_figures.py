"""The figures show what their titles say, with units, and leave no state behind."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from include import figures
from include.figures import BLUE, VERMILLION, feature_importance, predicted_against_actual, residuals

ROOT = Path(__file__).resolve().parents[2]
# As in a test set: the index is not 0, 1, 2, and predictions have none.
ACTUAL = pd.Series([100_000.0, 200_000.0, 450_000.0], index=[7, 11, 30])
PREDICTED = np.array([110_000.0, 190_000.0, 300_000.0])


def points(figure):
    return figure.axes[0].collections[0].get_offsets().tolist()


@pytest.mark.parametrize("name", ["predicted_against_actual", "residuals", "feature_importance"])
def test_a_figure_is_a_picture_with_a_title_units_and_readable_prices(name):
    arguments = (["lot_area", "year_sold"], [20_000, 1_000]) if name.startswith("f") else (ACTUAL, PREDICTED)
    figure = getattr(figures, name)(*arguments)
    axes, file = figure.axes[0], io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
    assert axes.get_title() or figure.get_suptitle()
    assert "USD" in axes.get_xlabel()
    labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    assert any(label.get_text().endswith("0,000") for label in labels)


def test_a_sale_is_at_its_actual_and_its_predicted_price():
    figure = predicted_against_actual(ACTUAL, PREDICTED)
    assert points(figure) == [[100_000, 110_000], [200_000, 190_000], [450_000, 300_000]]
    [line] = figure.axes[0].lines
    assert (line.get_slope(), line.get_label()) == (1, "predicted = actual")


def test_a_house_sold_above_its_prediction_has_a_residual_above_zero():
    figure = residuals(ACTUAL, PREDICTED)
    assert points(figure) == [[110_000, -10_000], [190_000, 10_000], [300_000, 150_000]]
    assert sum(bar.get_width() for bar in figure.axes[1].patches) == len(ACTUAL)


def test_residuals_can_be_shown_against_another_feature():
    area = pd.Series([800.0, 1_500.0, 4_200.0], index=ACTUAL.index)
    figure = residuals(ACTUAL, PREDICTED, against=area, label="Living area (square feet)")
    assert points(figure) == [[800, -10_000], [1_500, 10_000], [4_200, 150_000]]
    assert figure.axes[0].get_xlabel() == "Living area (square feet)"


def test_the_most_important_feature_is_at_the_top():
    figure = feature_importance(["lot_area", "living_area", "year_sold"], [20_000, 50_000, -10])
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["year sold", "lot area", "living area"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [-10, 20_000, 50_000]


def test_the_colours_also_differ_in_brightness():
    blue, vermillion = (np.dot(to_rgb(colour), [0.2126, 0.7152, 0.0722]) for colour in (BLUE, VERMILLION))
    assert vermillion - blue > 0.05


def test_no_figure_is_kept():
    script = """
import sys
from include.figures import predicted_against_actual
predicted_against_actual([1.0], [2.0])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
