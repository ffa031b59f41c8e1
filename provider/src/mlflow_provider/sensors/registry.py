"""Sensors for the MLflow model registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from airflow.sdk import BaseSensorOperator, PokeReturnValue

from mlflow_provider.exceptions import MLflowNotFoundError, MLflowProviderError
from mlflow_provider.operators.base import ModelVersionOperator
from mlflow_provider.server import limits
from mlflow_provider.triggers.registry import (
    MLflowModelVersionTrigger,
    get_registered_model,
    new_version,
)

if TYPE_CHECKING:
    from airflow.sdk import Context


class MLflowModelVersionSensor(ModelVersionOperator, BaseSensorOperator):
    """Wait for a version of a registered model, or for a version behind an alias.

    Without ``after_version`` any version is found, also one from before the DAG run. With it, the sensor
    waits for a newer version, or for the alias to point at another version. The sensor compares versions, not
    times, and therefore also finds a version that was created between two tries, or while the triggerer was
    down. The registered model and the alias may be created later. While MLflow is down, busy or failing, the
    sensor waits. It fails at once if MLflow rejects the request. A login without permission on a registered
    model gets the same response as for a missing one: the sensor logs both possibilities and waits.

    The sensor returns MLflow's answer and pushes ``name``, ``version`` and ``model_uri``, as the registry
    operators do.

    :param name: name of the registered model (templated).
    :param alias: the alias to wait for (templated). By default the sensor waits for the newest version.
    :param after_version: the last known version, e.g. ``"3"`` (templated).
    :param mlflow_conn_id: connection to the MLflow server (templated).
    :param deferrable: wait in the triggerer, without a worker slot. The default is Airflow's setting
        ``[operators] default_deferrable``.
    :return: ``{"model_version": {...}}``

    .. seealso:: https://mlflow.org/docs/latest/ml/model-registry/
    """

    template_fields: Sequence[str] = ("mlflow_conn_id", "name", "alias", "after_version")

    def __init__(
        self,
        *,
        name: str,
        alias: str | None = None,
        after_version: str | int | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.alias = alias
        self.after_version = after_version
        self.deferrable = deferrable

    def execute(self, context: Context) -> Any:
        if not self.deferrable:
            return super().execute(context)
        if result := self.poke(context):
            return result.xcom_value
        return self.defer(
            trigger=MLflowModelVersionTrigger(
                self.name, self.alias, self._known_version, self.mlflow_conn_id, self.poke_interval
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def poke(self, context: Context) -> PokeReturnValue:
        hook = self.hook.with_limits(self._limits)
        hook.connection.registry_url(aliases=bool(self.alias))  # raises if there are none
        try:
            model = get_registered_model(hook, self.name)
            version = new_version(model, self.alias, self._known_version) if model else None
            answer = hook.get_model_version(self.name, version) if version else None
        except MLflowNotFoundError:  # the version was deleted between the two requests
            answer = None
        except MLflowProviderError as error:
            if not error.is_transient:
                raise
            self.log.warning("%s Retrying.", error)
            answer = None
        if answer is None:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self.push_model_version(context, answer, "Found"))

    @property
    def _limits(self) -> limits.Limits:
        """Each poll is a retry, and no request takes longer than the sensor may wait."""
        polling = limits.trigger(self.hook.connection)
        return replace(polling, timeout=max(1.0, min(polling.timeout, self.timeout)))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the version that the trigger found, or raise the error that it reported."""
        event = event or {}
        if version := event.get("version"):
            answer = self.hook.get_model_version(self.name, version)
            return self.push_model_version(context, answer, "Found")
        raise MLflowProviderError(
            event.get("error") or f"Expected a version of {self.name!r} from the trigger, got {event!r}."
        )

    @property
    def _known_version(self) -> str | None:
        version = str(self.after_version or "").strip()
        if version and not version.isdecimal():
            raise ValueError(f"after_version is {version!r}; enter the number of a version of {self.name!r}.")
        return version or None
