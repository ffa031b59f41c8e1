"""MLflow models as Python functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow_provider.exceptions import wrap_mlflow_errors
from mlflow_provider.hooks.base import MLflowBaseHook
from mlflow_provider.hooks.wrapping import copy_with_functions_inside


class MLflowPyfuncHook(MLflowBaseHook):
    """Loads models with ``mlflow.pyfunc``, with the server, login and artifact store of a connection.

    .. code-block:: python

        model = MLflowPyfuncHook().get_conn().load_model("models:/Housing@champion")
        prices = model.predict(features)

    :param mlflow_conn_id: connection of type ``mlflow`` (``http`` also works).

    .. seealso:: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.pyfunc.html
    """

    hook_name = "MLflow Pyfunc"

    def get_conn(self) -> Any:
        """Return a copy of the module ``mlflow.pyfunc`` whose functions run inside :meth:`tracking`."""
        with self.tracking():
            import mlflow.pyfunc

        return copy_with_functions_inside(self.tracking, mlflow.pyfunc)

    def download_model(self, model_uri: str, dst_path: str | Path) -> Path:
        """Download a model and return its folder.

        :param model_uri: e.g. ``models:/Housing@champion``, ``models:/Housing/3``, ``runs:/<run_id>/model``.
        :param dst_path: folder for the model; created if it does not exist.
        :raises MLflowProviderError: the model does not exist, or MLflow does not return it.
        """
        with (
            self.tracking(),
            wrap_mlflow_errors(f"Connection {self.mlflow_conn_id!r}, downloading model {model_uri}"),
        ):
            import mlflow.artifacts

            return Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=str(dst_path)))
