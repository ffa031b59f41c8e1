"""Sensors for the MLflow model registry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from airflow.sdk import BaseSensorOperator, PokeReturnValue

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.operators.base import ModelVersionOperator
from mlflow_provider.triggers.registry import (
    MLflowModelVersionTrigger,
    get_registered_model,
    is_transient,
    new_version,
)

if TYPE_CHECKING:
    from airflow.sdk import Context


class MLflowModelVersionSensor(ModelVersionOperator, BaseSensorOperator):
    """Wait for a version of a registered model, or for a version behind one of its aliases.

    Without ``after_version`` any version will do, also one that was there before the DAG run. With it, the
    sensor waits for a newer one, or for the alias to point at another one. As it compares versions and not
    times, it also finds a version that was created while it did not look: between two tries, or while the
    triggerer was down. A registered model or an alias that is missing may come later. While
    MLflow is down, busy or failing the sensor waits; it fails at once when MLflow refuses.

    Like the registry operators it returns MLflow's answer, here for the newest version or the one behind
    the alias, and pushes ``name``, ``version`` and ``model_uri``.

    :param name: name of the registered model (templated).
    :param alias: wait for this alias (templated); without it, for the newest version.
    :param after_version: the version that is known already, e.g. ``"3"`` (templated).
    :param mlflow_conn_id: connection to the MLflow server (templated).
    :param deferrable: wait in the triggerer, which takes no worker's slot; by default as Airflow's
        ``[operators] default_deferrable`` says.
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
        if found := self.poke(context):
            return found.xcom_value
        return self.defer(
            trigger=MLflowModelVersionTrigger(
                self.name, self.alias, self._known_version, self.mlflow_conn_id, self.poke_interval
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def poke(self, context: Context) -> PokeReturnValue:
        try:
            model = get_registered_model(self.hook, self.name)
        except MLflowProviderError as error:
            if not is_transient(error):
                raise
            self.log.warning("%s Retrying.", error)
            return PokeReturnValue(is_done=False)
        version = new_version(model, self.alias, self._known_version) if model else None
        return PokeReturnValue(bool(version), self._found(context, version) if version else None)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the version that the triggerer found, or raise the error that it reported."""
        event = event or {}
        if version := event.get("version"):
            return self._found(context, version)
        problem = f"The triggerer stopped waiting for {self.name!r} and gave no reason: {event!r}."
        raise MLflowProviderError(event.get("error") or problem)

    @property
    def _known_version(self) -> str | None:
        known = str(self.after_version or "").strip()
        if known and not known.isdecimal():
            raise ValueError(f"after_version is {known!r}; enter the number of a version of {self.name!r}.")
        return known or None

    def _found(self, context: Context, version: str) -> dict[str, Any]:
        return self.push_model_version(context, self.hook.get_model_version(self.name, version), "Found")
