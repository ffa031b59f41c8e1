"""Operator that applies a model to data."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlflow_provider.exceptions import MLflowProviderError, wrap_mlflow_errors
from mlflow_provider.hooks.pyfunc import MLflowPyfuncHook
from mlflow_provider.operators.base import MLflowBaseOperator
from mlflow_provider.predict import model_environment, script
from mlflow_provider.server import request_auth

if TYPE_CHECKING:
    from airflow.providers.standard.hooks.subprocess import SubprocessHook
    from airflow.sdk import Context

# About 50,000 predictions of 20 bytes. More would strain Airflow's API server and database.
MAX_XCOM_BYTES = 1_000_000


class ModelLoadAndPredictOperator(MLflowBaseOperator):
    """Load a model and apply it to data.

    .. code-block:: python

        ModelLoadAndPredictOperator(
            task_id="predict", model_uri="models:/Housing@champion", data=load_features()
        )

    The model runs in the task's process if the worker meets the model's requirements: the same major and
    minor version of Python, and an installed version for each line of the model's ``requirements.txt``
    (``mlflow-skinny`` counts as ``mlflow``). MLflow pins exact versions when it logs a model, so this is the
    case on workers with the packages that trained it. Otherwise the model runs in a virtualenv. The first
    task that needs the virtualenv builds it, with uv if uv is on the worker's ``PATH``, and later tasks reuse
    it. uv and pip take the package index from the worker's environment, e.g. from ``PIP_INDEX_URL``.

    A model in a virtualenv gets the connection's login in environment variables, and the data in a file that
    is deleted when the task ends. Its DataFrames may contain numbers, booleans, text, categories and times
    without time zone.

    :param model_uri: the model, e.g. ``models:/Housing@champion`` or ``runs:/<run_id>/model`` (templated).
    :param data: input of the model: DataFrame, Series, numpy array, sparse matrix, list or dict, or the
        output of an upstream task (templated). The elements of a list are rows, and may be dicts. Lists and
        arrays get column names from the model's signature, and all numbers get its types if they keep their
        value. A template must render to such an object, which requires ``render_template_as_native_obj=True``
        in the DAG. Airflow does not show the data under *Rendered Templates*.
    :param suppress_warnings: suppress MLflow's warnings about the model's requirements. There are none in a
        virtualenv.
    :param dst_path: folder to download the model to (templated). The default is a temporary folder.
    :param artifact_file: path of a run's artifact to write the predictions to, as JSON, e.g.
        ``predictions.json`` (templated). By default the predictions are the task's XCom, up to 1 MB.
    :param run_id: the run for ``artifact_file`` (templated).
    :param venv_cache_path: folder for virtualenvs (templated). The default is ``airflow-provider-mlflow`` in
        the user's cache folder. Anyone who can write to it can run code as the worker. Unused virtualenvs
        may be deleted at any time.
    :return: a list with a row per prediction, which for a table is a dict by column name; or the URI of the
        artifact. NaN and infinity, which JSON does not have, are null.
    :raises MLflowProviderError: the model is not available, its virtualenv cannot be built, it fails there,
        the predictions are too large for an XCom, or ``MLFLOW_ALLOW_MODEL_CODE_EXECUTION`` is false on the
        worker, with any version of MLflow.
    :raises ValueError: there is no data, or the type in the signature cannot hold a number. In a virtualenv
        the latter is an MLflowProviderError.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.pyfunc.html
    """

    template_fields: Sequence[str] = (
        "mlflow_conn_id",
        "model_uri",
        "dst_path",
        "data",
        "artifact_file",
        "run_id",
        "venv_cache_path",
    )
    hidden_template_fields = ("data",)

    def __init__(
        self,
        *,
        model_uri: str,
        suppress_warnings: bool = False,
        dst_path: str | None = None,
        data: Any,
        artifact_file: str | None = None,
        run_id: str | None = None,
        venv_cache_path: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_uri = model_uri
        self.suppress_warnings = suppress_warnings
        self.dst_path = dst_path
        self.data = data
        self.artifact_file = artifact_file
        self.run_id = run_id
        self.venv_cache_path = venv_cache_path

    @cached_property
    def hook(self) -> MLflowPyfuncHook:  # type: ignore[override]  # uses mlflow.pyfunc, not REST
        """The hook for :attr:`mlflow_conn_id`."""
        return MLflowPyfuncHook(mlflow_conn_id=self.mlflow_conn_id)

    @cached_property
    def _subprocess(self) -> SubprocessHook:
        from airflow.providers.standard.hooks.subprocess import SubprocessHook

        return SubprocessHook()

    def execute(self, context: Context) -> Any:
        data = self._checked_data()
        if bool(self.artifact_file) != bool(self.run_id):
            raise ValueError(
                "artifact_file and run_id belong together; set both to write an artifact, or neither."
            )
        if os.environ.get("MLFLOW_ALLOW_MODEL_CODE_EXECUTION", "").lower() in ("false", "0"):
            raise MLflowProviderError(
                f"Model {self.model_uri} is not loaded: MLFLOW_ALLOW_MODEL_CODE_EXECUTION is false on this "
                "worker, and a model can run any code. If you trust the model, set the variable to true."
            )
        with TemporaryDirectory(prefix="mlflow-", ignore_cleanup_errors=True) as folder:
            model = self.hook.download_model(self.model_uri, self.dst_path or Path(folder, "model"))
            unmet = model_environment.unmet_requirements(model)
            if unmet:
                self.log.info("Model requirements not met on this worker: %s.", "; ".join(unmet))
                location = "a virtualenv"
                predictions = self._predict_in_virtualenv(model, data, Path(folder, "script"))
            else:
                location = "this process"
                with self.hook.tracking():
                    predictions = script.predict(str(model), data, suppress_warnings=self.suppress_warnings)
        result, destination = self._result(predictions)
        rows = json.loads(predictions)
        self.log.info(
            "Predicted %d row(s) with %s in %s, written to %s.",
            len(rows) if isinstance(rows, list) else 1,
            self.model_uri,
            location,
            destination,
        )
        return result

    def _checked_data(self) -> Any:
        if self.data is None or isinstance(self.data, str):
            value = "None, because the upstream task returned nothing" if self.data is None else "a string"
            raise ValueError(
                f"Expected rows to predict, got {value}. Pass the output of a task, or a template in a DAG "
                "with render_template_as_native_obj=True."
            )
        # The outputs of mapped tasks and rendered tuples are sequences, but not lists.
        return list(self.data) if isinstance(self.data, Sequence) else self.data

    def _predict_in_virtualenv(self, model: Path, data: Any, folder: Path) -> str:
        """Predict in a separate process that runs a copy of :mod:`mlflow_provider.predict.script`.

        :param folder: new folder for the script and its files. Python also imports modules next to a script,
            so there is nothing else in it.
        """
        cache = Path(self.venv_cache_path) if self.venv_cache_path else model_environment.default_cache()
        folder.mkdir()
        program, request, predictions = (
            folder / name for name in ("predict.py", "request.json", "predictions.json")
        )
        script.write_request(request, data)
        shutil.copy(script.__file__, program)
        python = model_environment.virtualenv(model, cache, self._run)
        with self.hook.tracking():  # the model may also use the server
            # Without this package, the virtualenv has no such login method; it takes the login variables.
            variables = {name: value for name, value in os.environ.items() if value != request_auth.NAME}
            paths = (python, program, model, request, predictions)
            self._run([str(path) for path in paths], folder, variables)
        return predictions.read_text()

    def _run(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        """Run a command and log its output."""
        result = self._subprocess.run_command(command, env=environment, cwd=str(folder))
        if result.exit_code:
            raise MLflowProviderError(
                f"Connection {self.mlflow_conn_id!r}, model {self.model_uri}: {Path(command[0]).name} exited "
                f"with {result.exit_code}: {result.output!r}. The task's log has its full output."
            )

    def _result(self, predictions: str) -> tuple[Any, str]:
        """Store the predictions; return the task's result, and a description of their location."""
        if self.artifact_file and self.run_id:
            action = f"Connection {self.mlflow_conn_id!r}, writing {self.artifact_file} to run {self.run_id}"
            with self.hook.tracking() as client, wrap_mlflow_errors(action):
                client.log_text(self.run_id, predictions, self.artifact_file)
            uri = f"runs:/{self.run_id}/{self.artifact_file}"
            return uri, uri
        if not self.do_xcom_push:
            return None, "nothing, because do_xcom_push is off"
        if (size := len(predictions.encode())) > MAX_XCOM_BYTES:
            raise MLflowProviderError(
                f"The predictions of {self.model_uri} take {size:,} bytes, and XComs of this operator are "
                f"limited to {MAX_XCOM_BYTES:,}. Set artifact_file and run_id to write them to an artifact."
            )
        return json.loads(predictions), "XCom"

    def on_kill(self) -> None:
        """Stop the process that builds the virtualenv or predicts in it."""
        with suppress(ProcessLookupError):
            self._subprocess.send_sigterm()
