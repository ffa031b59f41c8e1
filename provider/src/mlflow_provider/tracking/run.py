"""A run, as MLflow's REST API describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Run:
    """A run of an experiment.

    :param run_id: its ID.
    :param experiment_id: the ID of its experiment.
    :param name: its name.
    :param status: ``RUNNING``, ``FINISHED``, ``FAILED``, ``KILLED`` or ``SCHEDULED``.
    :param start_time: milliseconds since the epoch.
    :param end_time: milliseconds since the epoch; None while it is running.
    :param artifact_uri: where its artifacts are stored.
    :param tags: values by key.
    :param metrics: the last value of each metric, by key.
    """

    run_id: str
    experiment_id: str
    name: str
    status: str
    start_time: int
    end_time: int | None = None
    artifact_uri: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_api(cls, run: Mapping[str, Any]) -> Run:
        """Return a run from MLflow's answer.

        :param run: has ``info`` and ``data``. MLflow leaves out what is empty, and gives NaN as text.
        """
        info, data = run["info"], run.get("data", {})
        end_time = info.get("end_time")
        return cls(
            run_id=info["run_id"],
            experiment_id=info["experiment_id"],
            name=info.get("run_name") or info["run_id"],
            status=info["status"],
            start_time=int(info.get("start_time", 0)),
            end_time=int(end_time) if end_time else None,
            artifact_uri=info.get("artifact_uri", ""),
            tags={tag["key"]: tag["value"] for tag in data.get("tags", [])},
            metrics={metric["key"]: float(metric["value"]) for metric in data.get("metrics", [])},
        )

    @property
    def page(self) -> str:
        """The run's page in MLflow, for :meth:`MLflowConnection.page`."""
        return f"experiments/{self.experiment_id}/runs/{self.run_id}"
