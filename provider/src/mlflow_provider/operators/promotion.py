"""The gate of a registered model: a version gets an alias such as ``champion`` only if it is better."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.standard.utils.skipmixin import SkipMixin

from mlflow_provider.exceptions import MLflowAPIError, MLflowNotFoundError, MLflowProviderError
from mlflow_provider.links.mlflow import model_page
from mlflow_provider.operators.base import ModelVersionOperator
from mlflow_provider.version_compat import wait_for_response

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlflow_provider.hooks.client import MLflowClientHook

APPROVE, REJECT = "Approve", "Reject"

# Another gate may have read the alias just before this one moved it, and be about to move it, too: that is
# its very next request. After this time it has, and this gate sees it.
RECHECK_SECONDS = 1.0
MAX_MOVES = 20

# What a template makes of None.
NONE = (None, "", "None")


@dataclass(frozen=True)
class MetricRule:
    """When a candidate is better than the champion.

    :param metric: name of the metric.
    :param greater_is_better: its direction.
    :param threshold: what the candidate must reach in any case.
    :param min_absolute_change: by how much it must be better than the champion.
    """

    metric: str
    greater_is_better: bool
    threshold: float | None = None
    min_absolute_change: float = 0.0

    def compare(
        self, candidate: str, value: float, champion: str | None, champion_value: float | None
    ) -> tuple[bool, str]:
        """Return whether the candidate is better, and a sentence that says why.

        An equal candidate is not better, nor is one whose value is NaN or infinite. A champion whose
        value is that has nothing to defend.

        :param candidate: version of the candidate.
        :param value: its value of the metric.
        :param champion: version of the champion; None if there is none.
        :param champion_value: its value of the metric.
        """
        own = f"{self.metric} {number(value)} of version {candidate}"
        if not math.isfinite(value):
            return False, f"{own} is no result to judge by."
        if self.threshold is not None and self._gain(value, self.threshold) < 0:
            side = "below" if self.greater_is_better else "above"
            return False, f"{own} is {side} the threshold {number(self.threshold)}."
        if champion is None or champion_value is None:
            return True, f"{own}, and there is no champion yet."
        other = f"{number(champion_value)} of version {champion}"
        if not math.isfinite(champion_value):
            return True, f"{own} replaces {other}, which is no result to judge by."
        gain = self._gain(value, champion_value)
        if gain <= 0:
            return False, f"{own} is not better than {other}."
        # 0.9 - 0.8 is a little less than 0.1.
        least = self.min_absolute_change
        if gain < least and not math.isclose(gain, least):
            return False, f"{own} is better than {other}, but by less than {number(least)}."
        return True, f"{own} is better than {other}."

    def _gain(self, value: float, other: float) -> float:
        return value - other if self.greater_is_better else other - value


@dataclass(frozen=True)
class _Decision:
    promoted: bool
    name: str
    version: str
    metric: str
    value: float
    champion_version: str | None
    champion_value: float | None
    reason: str

    @property
    def is_a_change(self) -> bool:
        """Whether the alias is to move."""
        return self.promoted and self.champion_version != self.version

    def as_json(self) -> dict[str, Any]:
        """Return it as a dict without NaN and infinity, which JSON does not have."""
        result = asdict(self)
        infinite = [
            key for key, value in result.items() if isinstance(value, float) and not math.isfinite(value)
        ]
        return {**result, **dict.fromkeys(infinite)}


class PromoteModelVersionOperator(ModelVersionOperator, SkipMixin):
    """Move an alias to a model version if that is better than the version behind the alias.

    The value of the metric is that of the version's logged model, and where that has none, that of the
    version's run. Where the logged model has several values, of several steps or data sets, it is the newest.

    - The first version that holds the ``threshold`` gets an alias that is not there yet.
    - An equal version is not better. NaN and infinity are never better, and lose to any number.
    - A metric that is missing, of the candidate or of the champion, is an error: nothing is moved.
    - A candidate that has the alias already keeps it, and counts as promoted: a retry changes nothing.
    - MLflow cannot compare and move in one step. So the gate reads the alias right before it moves it and
      again a second later; if another gate has moved it, the two versions are compared again. Of gates
      that run at the same time the best candidate wins.

    :param name: name of the registered model (templated).
    :param version: the candidate, e.g. ``"3"`` (templated).
    :param metric: name of the metric to compare (templated).
    :param greater_is_better: its direction: True for accuracy, False for an error (templated).
    :param alias: the alias to move (templated).
    :param previous_alias: the alias that the version before keeps (templated); None for none.
    :param threshold: the worst value that may be promoted, also as the first (templated).
    :param min_absolute_change: by how much the candidate must be better, in the metric's unit (templated).
    :param if_rejected: ``skip`` all tasks that follow, whatever their trigger rules; ``fail``, without a
        retry; or ``continue``.
    :param wait_for_approval: let a person approve what is better, under *Required Actions* in Airflow
        (templated). The task takes no worker's slot meanwhile. What is approved is compared again,
        as the champion may be another one by then; what is not approved is rejected. A retry asks again.
    :return: ``promoted``, ``name``, ``version``, ``metric``, ``value``, ``champion_version``,
        ``champion_value`` (before the promotion; None where there is none, or no finite one), ``reason``

    .. seealso:: https://mlflow.org/docs/latest/ml/model-registry/
    """

    template_fields: Sequence[str] = (
        "mlflow_conn_id",
        "name",
        "version",
        "metric",
        "greater_is_better",
        "alias",
        "previous_alias",
        "threshold",
        "min_absolute_change",
        "wait_for_approval",
    )
    # Airflow then skips what was skipped also if that is cleared.
    inherits_from_skipmixin = True

    def __init__(
        self,
        *,
        name: str,
        version: str | int,
        metric: str,
        greater_is_better: bool | str,
        alias: str = "champion",
        previous_alias: str | None = "previous",
        threshold: float | str | None = None,
        min_absolute_change: float | str = 0.0,
        if_rejected: Literal["skip", "fail", "continue"] = "skip",
        wait_for_approval: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if if_rejected not in ("skip", "fail", "continue"):
            raise ValueError(f"if_rejected is {if_rejected!r}; enter skip, fail or continue.")
        self.name = name
        self.version = version
        self.metric = metric
        self.greater_is_better = greater_is_better
        self.alias = alias
        self.previous_alias = previous_alias
        self.threshold = threshold
        self.min_absolute_change = min_absolute_change
        self.if_rejected = if_rejected
        self.wait_for_approval = wait_for_approval

    def execute(self, context: Context) -> dict[str, Any]:
        is_approval_needed = as_bool("wait_for_approval", self.wait_for_approval)
        candidate = self._candidate(context)
        decision = self._decide(candidate, self._champion())
        if is_approval_needed and decision.is_a_change:
            self.log.info("Waiting for approval: %s", decision.reason)
            subject = f"Give version {decision.version} of {decision.name!r} the alias {self.alias!r}?"
            wait_for_response(context, subject, self._figures(candidate, decision), [APPROVE, REJECT])
        return self._conclude(context, self._promote(candidate, decision))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Promote or reject, as the person answered."""
        answer = event or {}
        chosen = answer.get("chosen_options")
        if chosen not in ([APPROVE], [REJECT]):
            problem = answer.get("error", answer)
            raise MLflowProviderError(f"Neither {APPROVE} nor {REJECT} was the answer, but {problem!r}.")
        candidate = self._candidate(context)
        decision = self._decide(candidate, self._champion())
        if chosen == [APPROVE]:
            decision, verdict = self._promote(candidate, decision), "Approved"
        else:
            decision, verdict = replace(decision, promoted=False), "Rejected"
        if user := answer.get("responded_by_user"):
            verdict += f" by {user['name']}"
        return self._conclude(context, replace(decision, reason=f"{decision.reason} {verdict}."))

    @property
    def _rule(self) -> MetricRule:
        min_absolute_change = as_number("min_absolute_change", self.min_absolute_change) or 0.0
        if min_absolute_change < 0:
            raise ValueError(f"min_absolute_change is {min_absolute_change:g}; enter 0 or more.")
        return MetricRule(
            self.metric,
            as_bool("greater_is_better", self.greater_is_better),
            as_number("threshold", self.threshold),
            min_absolute_change,
        )

    def _candidate(self, context: Context) -> dict[str, Any]:
        answer = self.hook.get_model_version(self.name, self.version)
        return self.push_model_version(context, answer, "Candidate is")["model_version"]

    def _champion(self) -> dict[str, Any] | None:
        try:
            return self.hook.get_model_version_by_alias(self.name, self.alias)["model_version"]
        except MLflowNotFoundError:
            return None

    def _decide(self, candidate: Mapping[str, Any], champion: Mapping[str, Any] | None) -> _Decision:
        rule, version = self._rule, candidate["version"]
        champion_version = champion["version"] if champion else None
        value, champion_value = self._value(candidate), None
        if champion_version == version:
            champion_value = value
            promoted, reason = True, f"Version {version} has alias {self.alias!r} already."
        else:
            if champion:
                advice = f"Log it there, or delete alias {self.alias!r}: the next version is then the first."
                champion_value = self._value(champion, advice)
            promoted, reason = rule.compare(version, value, champion_version, champion_value)
        return _Decision(
            promoted, self.name, version, self.metric, value, champion_version, champion_value, reason
        )

    def _value(self, version: Mapping[str, Any], advice: str = "") -> float:
        """Return a version's value of the metric, or raise an error that ends with the advice."""
        of_model = logged_model_metrics(self.hook, version)
        if self.metric in of_model:
            return logged_model_value(self.hook, of_model[self.metric])
        of_run = run_metrics(self.hook, version)
        if self.metric in of_run:
            return as_float(of_run[self.metric]["value"])
        known = ", ".join(sorted({*of_model, *of_run})) or "no metric at all"
        problem = (
            f"Version {version['version']} of {self.name!r} has no metric {self.metric!r}; it has {known}."
        )
        raise MLflowProviderError(f"{problem} {advice}".rstrip())

    def _promote(self, candidate: Mapping[str, Any], decision: _Decision) -> _Decision:
        """Move the alias; compare again as often as another gate moves it meanwhile."""
        for _ in range(MAX_MOVES):
            if not decision.is_a_change:
                return decision
            self._keep_as_previous(decision.champion_version)
            asked = time.monotonic()
            champion = self._champion()
            if (champion and champion["version"]) == decision.champion_version:
                self._set_alias(self.alias, decision.version)
                # A busy server delays the other gates as much as this one.
                time.sleep(max(RECHECK_SECONDS, 3 * (time.monotonic() - asked)))
                champion = self._champion()
                if champion and champion["version"] == decision.version:
                    return decision
            self.log.info("Alias %r was moved meanwhile; comparing again.", self.alias)
            decision = self._decide(candidate, champion)
        raise MLflowProviderError(
            f"Alias {self.alias!r} of {self.name!r} was moved {MAX_MOVES} times meanwhile, by other programs."
        )

    def _keep_as_previous(self, champion_version: str | None) -> None:
        if champion_version is None or self.previous_alias in NONE:
            return
        try:
            self._set_alias(self.previous_alias, champion_version)
        except MLflowNotFoundError:
            self.log.info("Version %s of %r was deleted meanwhile.", champion_version, self.name)

    def _set_alias(self, alias: str | None, version: str) -> None:
        params = {"name": self.name, "alias": alias, "version": version}
        try:
            self.hook.call("POST", "registered-models/alias", params)
        except MLflowAPIError as error:
            if error.error_code != "BAD_REQUEST":
                raise
            # MLflow refuses one of two gates that set a new alias at once. It is there now, and can be moved.
            self.hook.call("POST", "registered-models/alias", params)

    def _figures(self, candidate: Mapping[str, Any], decision: _Decision) -> str:
        """Return, as Markdown, what a person needs to decide."""
        page = self.hook.connection.page
        rows = [("candidate", decision.version, decision.value)]
        if decision.champion_version is not None and decision.champion_value is not None:
            rows.append((self.alias, decision.champion_version, decision.champion_value))
        lines = [decision.reason, "", f"| | version | {decision.metric} |", "|---|---|---|"]
        for role, version, value in rows:
            link = page(model_page(decision.name, version))
            lines.append(f"| {role} | [version {version}]({link}) | {number(value)} |")
        if run := find_run(self.hook, candidate):
            artifacts = f"experiments/{run['info']['experiment_id']}/runs/{run['info']['run_id']}/artifacts"
            lines += [
                "",
                f"[Figures of version {decision.version}]({page(artifacts)}), among its run's artifacts",
            ]
        return "\n".join(lines)

    def _conclude(self, context: Context, decision: _Decision) -> dict[str, Any]:
        """Say what was decided, and do with the tasks that follow as ``if_rejected`` says."""
        outcome = "Promoted" if decision.promoted else "Not promoted"
        self.log_with_page(
            f"{outcome}: {decision.reason.rstrip('.')}", model_page(decision.name, decision.version)
        )
        if decision.promoted or self.if_rejected == "continue":
            return decision.as_json()
        if self.if_rejected == "fail":
            raise AirflowFailException(f"Version {decision.version} of {decision.name!r}: {decision.reason}")
        if self.downstream_task_ids:
            ti = context["ti"]
            ti.xcom_push(key="return_value", value=decision.as_json())  # skip() raises: nothing is returned
            self.skip(ti, [task for task in self.get_flat_relatives() if not task.is_teardown])
        return decision.as_json()


def logged_model_metrics(hook: MLflowClientHook, version: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the newest entry of each metric of the logged model that a version was made from.

    :return: MLflow's entries: ``key``, ``value``, ``timestamp`` (ms), ``step``, ``run_id``
    """
    # MLflow's REST API does not give a version's model_id.
    match = re.fullmatch(r"models:/(m-\w+)", version.get("source", ""))
    if not match:
        return {}
    try:
        model = hook.call("GET", f"logged-models/{match[1]}")["model"]
    except MLflowNotFoundError:  # deleted, which leaves the version as it is
        return {}
    metrics = model.get("data", {}).get("metrics", [])
    return {entry["key"]: entry for entry in sorted(metrics, key=_age)}


def logged_model_value(hook: MLflowClientHook, entry: Mapping[str, Any]) -> float:
    """Return the value of a logged model's metric.

    MLflow 3.17 gives 0 for NaN here, the best of all errors; the run that logged it knows better.
    """
    value = as_float(entry["value"])
    if value != 0 or not entry.get("run_id"):
        return value
    params = {"run_id": entry["run_id"], "metric_key": entry["key"]}
    try:
        history = hook.call("GET", "metrics/get-history", params).get("metrics", [])
    except MLflowNotFoundError:
        return value
    return next((as_float(found["value"]) for found in history if _age(found) == _age(entry)), value)


def run_metrics(hook: MLflowClientHook, version: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the last entry of each metric of the run that a version was made from."""
    run = find_run(hook, version)
    return {entry["key"]: entry for entry in run["data"].get("metrics", [])} if run else {}


def find_run(hook: MLflowClientHook, version: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the run that a version was made from, or None."""
    if not version.get("run_id"):
        return None
    try:
        return hook.get_run(version["run_id"])
    except MLflowNotFoundError:
        return None


def _age(entry: Mapping[str, Any]) -> tuple[int, int]:
    return int(entry["timestamp"]), int(entry.get("step", 0))


def as_float(value: float | str) -> float:
    """Return a value as MLflow means it: it gives NaN as a string, and infinity as the largest number."""
    result = float(value)
    return math.copysign(math.inf, result) if abs(result) >= sys.float_info.max else result


def number(value: float) -> str:
    """Return a value as people read it."""
    return f"{value:.10g}"


def as_bool(field: str, value: bool | str) -> bool:
    """Return an argument of which a template may have made a string.

    :raises ValueError: it is neither True nor False.
    """
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise ValueError(f"{field} is {value!r}; enter True or False.")
    return text == "true"


def as_number(field: str, value: float | str | None) -> float | None:
    """Return an argument of which a template may have made a string, also of None.

    :raises ValueError: it is not a finite number.
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
