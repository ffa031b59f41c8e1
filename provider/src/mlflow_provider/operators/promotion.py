"""Promote a model version if it beats the current champion."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.standard.utils.skipmixin import SkipMixin

from mlflow_provider.exceptions import (
    MLflowAPIError,
    MLflowNotFoundError,
    MLflowProviderError,
    check_choice,
)
from mlflow_provider.links.mlflow import model_page
from mlflow_provider.operators.base import ModelVersionOperator
from mlflow_provider.operators.metric_rule import (
    NONE,
    MetricRule,
    as_bool,
    as_number,
    format_number,
    from_mlflow,
)
from mlflow_provider.server.replica import until_visible
from mlflow_provider.version_compat import wait_for_response

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlflow_provider.hooks.client import MLflowClientHook

IfRejected = Literal["skip", "fail", "continue"]

APPROVE, REJECT = "Approve", "Reject"

# Another promotion may have read the alias just before this one moved it, and moves it with its next request.
# After this time it has done so, and a second look finds out.
RECHECK_SECONDS = 1.0
MAX_MOVES = 20


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
    def moves_alias(self) -> bool:
        return self.promoted and self.champion_version != self.version

    def as_json(self) -> dict[str, Any]:
        """Return the decision as a dict. NaN and infinity, which JSON does not have, become None."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


class PromoteModelVersionOperator(ModelVersionOperator, SkipMixin):
    """Move an alias to a model version if it is better than the version behind the alias.

    The metric is read from the version's logged model, or from the version's run if the logged model does not
    have it. If the logged model has several values, e.g. of several steps or data sets, the newest counts.

    - The first version that reaches the ``threshold`` gets an alias that does not exist yet.
    - An equal version is not better. NaN and infinity are never better, and lose to any finite number.
    - A missing metric, of the candidate or of the champion, is an error, and the alias is not moved.
    - A candidate that already has the alias keeps it and counts as promoted, so a retry changes nothing.
    - MLflow cannot compare and move in one step. The operator reads the alias right before it moves it and
      again a second later, and compares again if another task has moved it. Of promotions that run at the
      same time, the best candidate wins.

    :param name: name of the registered model (templated).
    :param version: the candidate, e.g. ``"3"`` (templated).
    :param metric: name of the metric to compare (templated).
    :param greater_is_better: direction of the metric: True for accuracy, False for an error (templated).
    :param alias: the alias to move (templated).
    :param previous_alias: alias for the replaced version; None for no such alias (templated).
    :param threshold: worst value that may be promoted, also as the first version (templated).
    :param min_absolute_change: minimum improvement on the champion, in the metric's unit (templated).
    :param if_rejected: ``skip`` all downstream tasks, with any trigger rule; ``fail`` without a retry;
        or ``continue``.
    :param wait_for_approval: let a person approve a better version under *Required Actions* in Airflow
        (templated). The task takes no worker slot while it waits. An approved version is compared again,
        because the champion may have changed; a version that is not approved is rejected. A retry asks again.
    :return: ``promoted``, ``name``, ``version``, ``metric``, ``value``, ``champion_version``,
        ``champion_value`` (before the promotion; None if there is none or it is not finite), ``reason``

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
    # Airflow then skips downstream tasks also after they are cleared.
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
        if_rejected: IfRejected = "skip",
        wait_for_approval: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("if_rejected", if_rejected, IfRejected)
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
        if is_approval_needed and decision.moves_alias:
            self.log.info("Waiting for approval: %s", decision.reason)
            subject = f"Give version {decision.version} of {decision.name!r} the alias {self.alias!r}?"
            wait_for_response(context, subject, self._request_body(candidate, decision), [APPROVE, REJECT])
        return self._conclude(context, self._promote(candidate, decision))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Promote or reject the version, according to the person's response."""
        response = event or {}
        chosen = response.get("chosen_options")
        if chosen not in ([APPROVE], [REJECT]):
            problem = response.get("error", response)
            raise MLflowProviderError(f"Expected {APPROVE} or {REJECT}, got {problem!r}.")
        candidate = self._candidate(context)
        decision = self._decide(candidate, self._champion())
        if chosen == [APPROVE]:
            decision, verdict = self._promote(candidate, decision), "Approved"
        else:
            decision, verdict = replace(decision, promoted=False), "Rejected"
        if user := response.get("responded_by_user"):
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
        get = partial(self.hook.get_model_version, self.name, self.version)
        answer = until_visible(f"version {self.version} of {self.name!r}", get)
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
            promoted, reason = True, f"Version {version} already has alias {self.alias!r}."
        else:
            if champion:
                advice = f"Log the metric there, or delete alias {self.alias!r} to start over."
                champion_value = self._value(champion, advice)
            promoted, reason = rule.compare(version, value, champion_version, champion_value)
        return _Decision(
            promoted, self.name, version, self.metric, value, champion_version, champion_value, reason
        )

    def _value(self, version: Mapping[str, Any], advice: str = "") -> float:
        """Return a version's value of the metric.

        :raises MLflowProviderError: the version has no such metric; the message ends with the advice.
        """
        model_metrics = logged_model_metrics(self.hook, version)
        if self.metric in model_metrics:
            return logged_model_value(self.hook, model_metrics[self.metric])
        metrics = run_metrics(self.hook, version)
        if self.metric in metrics:
            return from_mlflow(metrics[self.metric]["value"])
        names = ", ".join(sorted({*model_metrics, *metrics})) or "no metrics"
        problem = (
            f"Version {version['version']} of {self.name!r} has no metric {self.metric!r}; it has {names}."
        )
        raise MLflowProviderError(f"{problem} {advice}".rstrip())

    def _promote(self, candidate: Mapping[str, Any], decision: _Decision) -> _Decision:
        """Move the alias, and compare again each time another program moves it."""
        for _ in range(MAX_MOVES):
            if not decision.moves_alias:
                return decision
            self._keep_as_previous(decision.champion_version)
            start = time.monotonic()
            champion = self._champion()
            if (champion and champion["version"]) == decision.champion_version:
                self._set_alias(self.alias, decision.version)
                moved_alias = f"alias {self.alias!r} at version {decision.version}"
                until_visible(moved_alias, partial(self._has_moved, decision.champion_version))
                # A busy server delays other promotions as much as this one.
                time.sleep(max(RECHECK_SECONDS, 3 * (time.monotonic() - start)))
                champion = self._champion()
                if champion and champion["version"] == decision.version:
                    return decision
            self.log.info("Alias %r was moved by another program; comparing again.", self.alias)
            decision = self._decide(candidate, champion)
        raise MLflowProviderError(
            f"Alias {self.alias!r} of {self.name!r} was moved {MAX_MOVES} times by other programs. "
            "Make sure that only one of them sets it."
        )

    def _has_moved(self, champion_version: str | None) -> bool:
        champion = self._champion()
        return champion is not None and champion["version"] != champion_version

    def _keep_as_previous(self, champion_version: str | None) -> None:
        if champion_version is None or self.previous_alias in NONE:
            return
        try:
            self._set_alias(self.previous_alias, champion_version)
        except MLflowNotFoundError:
            self.log.info("Version %s of %r no longer exists.", champion_version, self.name)

    def _set_alias(self, alias: str | None, version: str) -> None:
        params = {"name": self.name, "alias": alias, "version": version}
        try:
            self.hook.call("POST", "registered-models/alias", params)
        except MLflowAPIError as error:
            if error.error_code != "BAD_REQUEST":
                raise
            # MLflow rejects one of two clients that set a new alias at once. By now the alias can be moved.
            self.hook.call("POST", "registered-models/alias", params)

    def _request_body(self, candidate: Mapping[str, Any], decision: _Decision) -> str:
        """Return the body of the request for approval, as Markdown."""
        page = self.hook.connection.page
        rows = [("candidate", decision.version, decision.value)]
        if decision.champion_version is not None and decision.champion_value is not None:
            rows.append((self.alias, decision.champion_version, decision.champion_value))
        lines = [decision.reason, "", f"| | version | {decision.metric} |", "|---|---|---|"]
        for role, version, value in rows:
            link = page(model_page(decision.name, version))
            lines.append(f"| {role} | [version {version}]({link}) | {format_number(value)} |")
        # The metric may come from a run that evaluated the model, which then has the figures.
        measured = logged_model_metrics(self.hook, candidate).get(self.metric, {})
        if run := find_run(self.hook, {"run_id": measured.get("run_id") or candidate.get("run_id")}):
            artifacts = f"experiments/{run['info']['experiment_id']}/runs/{run['info']['run_id']}/artifacts"
            title = f"Artifacts of the run that logged {self.metric} of version {decision.version}"
            lines += ["", f"[{title}]({page(artifacts)})"]
        return "\n".join(lines)

    def _conclude(self, context: Context, decision: _Decision) -> dict[str, Any]:
        """Log the decision and apply ``if_rejected``."""
        outcome = "Promoted" if decision.promoted else "Not promoted"
        self.log_with_page(
            f"{outcome}: {decision.reason.rstrip('.')}", model_page(decision.name, decision.version)
        )
        if decision.promoted or self.if_rejected == "continue":
            return decision.as_json()
        if self.if_rejected == "fail":
            raise AirflowFailException(f"Version {decision.version} of {decision.name!r}: {decision.reason}")
        if self.downstream_task_ids and (ti := context.get("ti")):
            ti.xcom_push(key="return_value", value=decision.as_json())  # skip() raises: nothing is returned
            self.skip(ti, [task for task in self.get_flat_relatives() if not task.is_teardown])
        return decision.as_json()


def logged_model_metrics(hook: MLflowClientHook, version: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the newest entry of each metric of a version's logged model.

    :return: MLflow's entries by metric, with ``key``, ``value``, ``timestamp`` (ms), ``step`` and ``run_id``
    """
    # MLflow's REST API does not return a version's model_id.
    match = re.fullmatch(r"models:/(m-\w+)", version.get("source", ""))
    if not match:
        return {}
    try:
        model = hook.call("GET", f"logged-models/{match[1]}")["model"]
    except MLflowNotFoundError:  # a version outlives its logged model
        return {}
    metrics = model.get("data", {}).get("metrics", [])
    return {entry["key"]: entry for entry in sorted(metrics, key=_age)}


def logged_model_value(hook: MLflowClientHook, entry: Mapping[str, Any]) -> float:
    """Return the value of a logged model's metric.

    MLflow 3.17 returns 0 for NaN, which would be the best error; the run that logged it has the value.
    """
    value = from_mlflow(entry["value"])
    if value != 0 or not entry.get("run_id"):
        return value
    params = {"run_id": entry["run_id"], "metric_key": entry["key"]}
    try:
        history = hook.call("GET", "metrics/get-history", params).get("metrics", [])
    except MLflowNotFoundError:
        return value
    return next((from_mlflow(logged["value"]) for logged in history if _age(logged) == _age(entry)), value)


def run_metrics(hook: MLflowClientHook, version: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the last entry of each metric of a version's run."""
    run = find_run(hook, version)
    return {entry["key"]: entry for entry in run.get("data", {}).get("metrics", [])} if run else {}


def find_run(hook: MLflowClientHook, version: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the run in ``run_id``, or None if there is none."""
    if not version.get("run_id"):
        return None
    try:
        return hook.get_run(version["run_id"])
    except MLflowNotFoundError:
        return None


def _age(entry: Mapping[str, Any]) -> tuple[int, int]:
    return int(entry["timestamp"]), int(entry.get("step", 0))
