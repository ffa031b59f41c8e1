"""An operator that applies a model to data."""

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

if TYPE_CHECKING:
    from airflow.providers.standard.hooks.subprocess import SubprocessHook
    from airflow.sdk import Context

# A row of numbers takes some 20 bytes: 50,000 predictions. More burdens Airflow's API server and database.
MAX_XCOM_BYTES = 1_000_000


class ModelLoadAndPredictOperator(MLflowBaseOperator):
    """Load a model and apply it to data.

    .. code-block:: python

        ModelLoadAndPredictOperator(
            task_id="predict", model_uri="models:/Housing@champion", data=load_features()
        )

    The model runs in the task's process if that has what the model requires: the same major and minor
    version of Python, and each line of the model's ``requirements.txt`` installed in a version that the line
    allows (``mlflow-skinny`` does for ``mlflow``). MLflow pins exact versions when it logs a model, so
    this is so where workers have what trained it. Otherwise the model runs in a virtualenv, built by the
    first task that needs it, with uv if that is on the worker's ``PATH``, and kept for all tasks after it.
    What a package index wants to know, uv and pip take from the worker's environment as ever, e.g.
    ``PIP_INDEX_URL``.

    The connection's login reaches a virtualenv as environment variables, and the data through a file that is
    gone when the task ends. There, DataFrames hold numbers, booleans, text, categories and times without
    time zone.

    :param model_uri: the model, e.g. ``models:/Housing@champion`` or ``runs:/<run_id>/model`` (templated).
    :param data: input of the model: DataFrame, Series, numpy array, sparse matrix, list or dict, or an
        upstream task's output (templated). A list's elements are rows; they may be dicts. Lists and arrays
        take column names from the model's signature, and all numbers its types, if that changes none.
        A template has to render to such an object, which it does in a DAG with
        ``render_template_as_native_obj=True``. Airflow does not show the data as rendered templates.
    :param suppress_warnings: whether MLflow keeps its warnings about the model's requirements to itself; it
        has none in a virtualenv.
    :param dst_path: folder to download the model to (templated); a temporary one by default.
    :param artifact_file: where to write the predictions as JSON among the artifacts of a run, e.g.
        ``predictions.json`` (templated). Without it they are the task's XCom, if they take no more than
        1 MB.
    :param run_id: the run that ``artifact_file`` goes to (templated).
    :param venv_cache_path: folder where virtualenvs are kept (templated); by default
        ``airflow-provider-mlflow`` in the user's cache folder. Anyone who may write there may run code as
        the worker. An unused virtualenv may be deleted at any time.
    :return: a list with a row per prediction, of a table a dict by column names; or the URI of the artifact.
        JSON has neither NaN nor infinity; they become null.
    :raises MLflowProviderError: the model cannot be had, its virtualenv cannot be built, it fails there, or
        the predictions take more than an XCom should.
    :raises ValueError: there are no data, or a number that the type in the signature cannot hold; in a
        virtualenv the latter is a MLflowProviderError.

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
    def hook(self) -> MLflowPyfuncHook:  # type: ignore[override]  # speaks mlflow.pyfunc, not REST
        """The hook, made when it is first used."""
        return MLflowPyfuncHook(mlflow_conn_id=self.mlflow_conn_id)

    @cached_property
    def _subprocess(self) -> SubprocessHook:
        from airflow.providers.standard.hooks.subprocess import SubprocessHook

        return SubprocessHook()

    def execute(self, context: Context) -> Any:
        data = self._checked_data()
        if bool(self.artifact_file) != bool(self.run_id):
            raise ValueError(
                "Predictions become an artifact with artifact_file and run_id; give both or none."
            )
        with TemporaryDirectory(prefix="mlflow-", ignore_cleanup_errors=True) as folder:
            model = self.hook.download_model(self.model_uri, self.dst_path or Path(folder, "model"))
            unmet = model_environment.unmet_requirements(model)
            if unmet:
                self.log.info("This worker lacks what the model requires: %s.", "; ".join(unmet))
                place = "a virtualenv"
                predictions = self._predict_in_virtualenv(model, data, Path(folder, "script"))
            else:
                place = "this process"
                with self.hook.tracking():
                    predictions = script.predict(str(model), data, suppress_warnings=self.suppress_warnings)
        result, written_to = self._result(predictions)
        rows = json.loads(predictions)
        self.log.info(
            "Predicted %d row(s) with %s in %s, written to %s.",
            len(rows) if isinstance(rows, list) else 1,
            self.model_uri,
            place,
            written_to,
        )
        return result

    def _checked_data(self) -> Any:
        if self.data is None or isinstance(self.data, str):
            what = "None: its upstream task returned nothing" if self.data is None else "text"
            raise ValueError(
                f"There is nothing to predict, data is {what}. Pass the output of a task; or a template, "
                "in a DAG with render_template_as_native_obj=True."
            )
        # The output of a mapped task, and what a template makes of a tuple, are not quite a list.
        return list(self.data) if isinstance(self.data, Sequence) else self.data

    def _predict_in_virtualenv(self, model: Path, data: Any, folder: Path) -> str:
        """Predict in a process of its own, which runs a copy of the module ``predict``.

        :param folder: for the script and the files; Python imports also what lies next to a script, so it
            holds nothing else.
        """
        cache = Path(self.venv_cache_path) if self.venv_cache_path else model_environment.default_cache()
        folder.mkdir()
        program, request, predictions = (
            folder / name for name in ("predict.py", "request.json", "predictions.json")
        )
        script.write_request(request, data)
        shutil.copy(script.__file__, program)
        python = model_environment.virtualenv(model, cache, self._run)
        with self.hook.tracking():  # a model may use the server too
            self._run(
                [str(path) for path in (python, program, model, request, predictions)],
                folder,
                dict(os.environ),
            )
        return predictions.read_text()

    def _run(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        """Run a command and log what it prints."""
        result = self._subprocess.run_command(command, env=environment, cwd=str(folder))
        if result.exit_code:
            raise MLflowProviderError(
                f"Connection {self.mlflow_conn_id!r}, model {self.model_uri}: {Path(command[0]).name} ended "
                f"with {result.exit_code}, its last line is {result.output!r}. The rest is in the task's log."
            )

    def _result(self, predictions: str) -> tuple[Any, str]:
        """Write the predictions; return what the task returns, and in words where they are."""
        if self.artifact_file and self.run_id:
            what = f"Connection {self.mlflow_conn_id!r}, writing {self.artifact_file} to run {self.run_id}"
            with self.hook.tracking() as client, wrap_mlflow_errors(what):
                client.log_text(self.run_id, predictions, self.artifact_file)
            uri = f"runs:/{self.run_id}/{self.artifact_file}"
            return uri, uri
        if not self.do_xcom_push:
            return None, "nothing, as do_xcom_push is off"
        if (size := len(predictions.encode())) > MAX_XCOM_BYTES:
            raise MLflowProviderError(
                f"The predictions of {self.model_uri} take {size:,} bytes, an XCom of this operator "
                f"{MAX_XCOM_BYTES:,}. With artifact_file and run_id they become an artifact of a run."
            )
        return json.loads(predictions), "XCom"

    def on_kill(self) -> None:
        """End the process that builds the virtualenv or predicts in it."""
        with suppress(ProcessLookupError):
            self._subprocess.send_sigterm()
