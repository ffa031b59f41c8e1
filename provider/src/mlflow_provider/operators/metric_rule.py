"""The comparison of two model versions by a metric, without a server."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

# Values that a template may render for None.
NONE = (None, "", "None")


@dataclass(frozen=True)
class MetricRule:
    """Decides whether a candidate is better than the champion.

    :param metric: name of the metric.
    :param greater_is_better: direction of the metric.
    :param threshold: worst value that is accepted.
    :param min_absolute_change: minimum improvement on the champion.
    """

    metric: str
    greater_is_better: bool
    threshold: float | None = None
    min_absolute_change: float = 0.0

    def compare(
        self, candidate: str, value: float, champion: str | None, champion_value: float | None
    ) -> tuple[bool, str]:
        """Return whether the candidate is better, and a sentence with the reason.

        A candidate that is equal, NaN or infinite is not better. Any finite value is better than a champion
        that is NaN or infinite.

        :param candidate: version of the candidate.
        :param value: the candidate's value of the metric.
        :param champion: version of the champion; None if there is no champion.
        :param champion_value: the champion's value of the metric.
        """
        own = f"{self.metric} {format_number(value)} of version {candidate}"
        if not math.isfinite(value):
            return False, f"{own} is not a finite number."
        if self.threshold is not None and self._gain(value, self.threshold) < 0:
            side = "below" if self.greater_is_better else "above"
            return False, f"{own} is {side} the threshold {format_number(self.threshold)}."
        if champion is None or champion_value is None:
            return True, f"{own}, and there is no champion yet."
        other = f"{format_number(champion_value)} of version {champion}"
        if not math.isfinite(champion_value):
            return True, f"{own} replaces {other}, which is not a finite number."
        gain = self._gain(value, champion_value)
        if gain <= 0:
            return False, f"{own} is not better than {other}."
        least = self.min_absolute_change
        if gain < least and not math.isclose(gain, least):  # 0.9 - 0.8 is slightly less than 0.1
            return False, f"{own} is better than {other}, but by less than {format_number(least)}."
        return True, f"{own} is better than {other}."

    def _gain(self, value: float, other: float) -> float:
        return value - other if self.greater_is_better else other - value


def from_mlflow(value: float | str) -> float:
    """Return a metric's value from MLflow, which writes NaN as a string and infinity as the largest float."""
    result = float(value)
    return math.copysign(math.inf, result) if abs(result) >= sys.float_info.max else result


def format_number(value: float) -> str:
    """Return a number with up to ten digits."""
    return f"{value:.10g}"


def as_bool(field: str, value: bool | str) -> bool:
    """Return an argument that a template may have rendered as a string.

    :raises ValueError: the argument is neither True nor False.
    """
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise ValueError(f"{field} is {value!r}; enter True or False.")
    return text == "true"


def as_number(field: str, value: float | str | None) -> float | None:
    """Return an argument that a template may have rendered as a string, also from None.

    :raises ValueError: the argument is not a finite number.
    """
    if value is None or str(value).strip() in NONE:
        return None
    try:
        result = float(value)
    except ValueError:
        result = math.nan
    if not math.isfinite(result):
        raise ValueError(f"{field} is {value!r}; enter a number.")
    return result
