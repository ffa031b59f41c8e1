"""Figures that show how well a model predicts the sale price, for ``mlflow.log_figure``.

A DAG file can import this module at its top, because matplotlib is imported only when a function is called.
The figures do not use pyplot, which keeps every figure in memory and shares state with the whole process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

# Colours that colour-blind people can distinguish: Okabe and Ito (2008), https://jfly.uni-koeln.de/color/
BLUE: Final = "#0072B2"
VERMILLION: Final = "#D55E00"

THOUSANDS: Final = "{x:,.0f}"  # 200,000


def predicted_against_actual(actual: ArrayLike, predicted: ArrayLike) -> Figure:
    """Draw each sale as a point; the closer to the line, the better the prediction.

    :param actual: actual prices in USD.
    :param predicted: predicted prices of the same sales in USD.
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
    """Draw the residuals: a scatter plot of all sales on the left, a histogram on the right.

    For a good model the points show no pattern, and about half of them are above zero.

    :param actual: actual prices in USD.
    :param predicted: predicted prices of the same sales in USD.
    :param against: values for the horizontal axis; the predicted prices by default.
    :param label: label of the horizontal axis with its unit, such as ``Living area (square feet)``.
    """
    import numpy as np

    errors = np.asarray(actual) - np.asarray(predicted)
    figure = _figure()
    scatter, histogram = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    scatter.scatter(predicted if against is None else against, errors, s=12, alpha=0.5, color=BLUE)
    histogram.hist(errors, bins=40, orientation="horizontal", color=BLUE)
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
    """Draw a bar for each feature, with the most important one at the top.

    :param names: names of the features; ``living_area`` is shown as "living area".
    :param values: importance of each feature, in the same order.
    :param label: name of the measure, with its unit.
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
