"""Figures that show how good a model of the sale price is, for ``mlflow.log_figure``.

A DAG file may import this module at its top: matplotlib is imported when a function is called. Without
pyplot, which would keep every figure and share its state with the rest of the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

# Told apart also by the colour-blind: Okabe and Ito (2008), https://jfly.uni-koeln.de/color/
BLUE: Final = "#0072B2"
VERMILLION: Final = "#D55E00"

THOUSANDS: Final = "{x:,.0f}"  # 200,000


def predicted_against_actual(actual: ArrayLike, predicted: ArrayLike) -> Figure:
    """Draw each sale as a point; the closer to the line, the better its prediction.

    :param actual: prices paid, USD.
    :param predicted: prices predicted for the same sales, USD.
    """
    figure = _figure()
    axes = figure.subplots()
    axes.scatter(actual, predicted, s=12, alpha=0.5, color=BLUE)
    axes.axline((0, 0), slope=1, color=VERMILLION, label="predicted = actual")
    axes.set(title="Predicted against actual price", aspect="equal", xlim=(0, None))
    axes.set(xlabel="Actual price (USD)", ylabel="Predicted price (USD)")
    axes.xaxis.set_major_formatter(THOUSANDS)
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.legend()
    return figure


def residuals(
    actual: ArrayLike,
    predicted: ArrayLike,
    against: ArrayLike | None = None,
    label: str = "Predicted price (USD)",
) -> Figure:
    """Draw what the predictions missed: on the left sale by sale, on the right how often how much.

    A model that has learned all there is leaves points without a pattern, as many above zero as below.

    :param actual: prices paid, USD.
    :param predicted: prices predicted for the same sales, USD.
    :param against: what the horizontal axis shows of each sale; without it, the predicted price.
    :param label: the label of that axis, with its unit, such as ``Living area (square feet)``.
    """
    import numpy as np

    missed = np.asarray(actual) - np.asarray(predicted)
    figure = _figure()
    scatter, histogram = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    scatter.scatter(predicted if against is None else against, missed, s=12, alpha=0.5, color=BLUE)
    histogram.hist(missed, bins=40, orientation="horizontal", color=BLUE)
    for axes in (scatter, histogram):
        axes.axhline(0, color=VERMILLION)
        axes.xaxis.set_major_formatter(THOUSANDS)
    figure.suptitle("Residuals: actual minus predicted price")
    scatter.set(xlabel=label, ylabel="Residual (USD)")
    scatter.yaxis.set_major_formatter(THOUSANDS)
    histogram.set(xlabel="Sales")
    return figure


def feature_importance(
    names: Sequence[str], values: ArrayLike, label: str = "Rise of the error (USD) when shuffled"
) -> Figure:
    """Draw a bar for each feature, the most important one at the top.

    :param names: the features; ``living_area`` is shown as "living area".
    :param values: how much each of them matters, in their order.
    :param label: what was measured, with its unit.
    """
    import numpy as np

    importance = np.asarray(values)
    order = np.argsort(importance)
    figure = _figure()
    axes = figure.subplots()
    axes.barh([names[i].replace("_", " ") for i in order], importance[order], color=BLUE)
    axes.set(title="Importance of the features", xlabel=label)
    axes.xaxis.set_major_formatter(THOUSANDS)
    return figure


def _figure() -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(8, 5.5), layout="constrained")
