"""The predict operator, in the task's process and in a virtualenv, against a server that requires a login."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import airflow
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from uv import find_uv_bin

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.operators.pyfunc import MAX_XCOM_BYTES, ModelLoadAndPredictOperator
from mlflow_provider.process.tracking import tracking
from mlflow_provider.server.connection import MLflowConnection
from mlflow_provider.server.logins.password import Password
from mlflow_servers import ADMIN_PASSWORD
from wheels import make_mlflow_wheel

if TYPE_CHECKING:
    from mlflow_servers import MLflowServer

HOUSES = pd.DataFrame({"area": [80.0, 120.0], "rooms": [3, 5]})
PRICES = [2 * 80.0 + 3 * 3 + 1, 2 * 120.0 + 3 * 5 + 1]

# Does what its input says, to look at a model from inside.
OBEDIENT_MODEL = """
import os, sys, time
from pathlib import Path

import mlflow


class Obedient(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return getattr(self, model_input["do"])(model_input)

    def look_around(self, model_input):
        here = Path(sys.argv[0]).parent
        return {
            "prefix": sys.prefix,
            "arguments": Path("/proc/self/cmdline").read_text().split("\\0"),
            "files": {str(p): p.read_text(errors="replace") for p in here.rglob("*") if p.is_file()},
            "experiments": [experiment.name for experiment in mlflow.search_experiments()],
        }

    def name_prefix(self, model_input):
        return sys.prefix

    def give_back(self, model_input):
        return model_input["what"]

    def describe(self, model_input):
        return [repr((x, getattr(x, "dtypes", getattr(x, "dtype", None)))) for x in model_input["what"]]

    def fail(self, model_input):
        raise ValueError("no such street")

    def sleep(self, model_input):
        Path(model_input["file"]).write_text(str(os.getpid()))
        time.sleep(600)


mlflow.models.set_model(Obedient())
"""

# Returns its input after MLflow has checked it by the signature.
STRICT_MODEL = """
import mlflow


class Strict(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input


mlflow.models.set_model(Strict())
"""
TYPED_HOUSES = pd.DataFrame({"area": [80.0, 120.0], "rooms": [3, 5], "is_new": [True, False]})


@dataclass(frozen=True)
class Models:
    """URIs of models, and the run that logged them."""

    run_id: str
    housing: str
    nameless: str
    obedient: str
    elsewhere: str
    strict: str


@pytest.fixture(scope="module")
def models(mlflow_auth_server: MLflowServer, tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    code = folder / "obedient.py"
    code.write_text(OBEDIENT_MODEL)
    strict_code = folder / "strict.py"
    strict_code.write_text(STRICT_MODEL)
    elsewhere = [f"mlflow-skinny @ {make_mlflow_wheel(folder).as_uri()}"]
    server = mlflow_auth_server
    login = Password(server.login, secret=server.password)
    connection = MLflowConnection("", server.url, login=login)
    with tracking(connection):
        import mlflow
        from sklearn.linear_model import LinearRegression

        mlflow.set_experiment("Housing, predicted")
        model = LinearRegression().fit(np.eye(3)[:, :2], np.eye(3)[:, :2] @ [2.0, 3.0] + 1)
        here: Any = {"pip_requirements": ["scikit-learn"]}
        with mlflow.start_run() as run:
            # As floats, because MLflow warns of integers in a signature.
            housing = mlflow.sklearn.log_model(
                model,
                name="housing",
                input_example=HOUSES.astype({"rooms": "float64"}),
                registered_model_name="Housing, predicted",
                **here,
            )
            nameless = mlflow.sklearn.log_model(model, name="nameless", input_example=np.eye(2), **here)
            log: Callable[..., Any] = mlflow.pyfunc.log_model
            obedient = log(name="obedient", python_model=str(code), pip_requirements=["pandas"])
            away = log(name="elsewhere", python_model=str(code), pip_requirements=elsewhere)
            strict = log(
                name="strict",
                python_model=str(strict_code),
                input_example=TYPED_HOUSES,
                pip_requirements=["pandas"],
            )
        mlflow.MlflowClient().set_registered_model_alias("Housing, predicted", "champion", "1")
    logged_models = (housing, nameless, obedient, away, strict)
    return Models(run.info.run_id, *(logged.model_uri for logged in logged_models))


@pytest.fixture
def mlflow_default(mlflow_auth_server, airflow_connection):
    return airflow_connection(**mlflow_auth_server.connection)


@pytest.fixture
def predict(execute) -> Callable[..., Any]:
    """A function that executes the operator and returns its XCom."""

    def predict(model_uri: str, data: Any, **arguments: Any) -> Any:
        return execute(ModelLoadAndPredictOperator, model_uri=model_uri, data=data, **arguments)

    return predict


# Accepted by 1.1.0, which ignored the signature.
UNTYPED: dict[str, Any] = {
    "array": TYPED_HOUSES.to_numpy(dtype="float64"),
    "array of objects": TYPED_HOUSES.to_numpy(dtype="object"),
    "rows": [[80, 3.0, 1], [120, 5.0, 0]],
    "dicts": [{"area": 80, "rooms": 3.0, "is_new": 1}, {"area": 120, "rooms": 5.0, "is_new": 0}],
    "frame": TYPED_HOUSES.astype("float64"),
    "dict of arrays": {name: column.to_numpy("float64") for name, column in TYPED_HOUSES.items()},
    "dict of lists": {"area": [80, 120], "rooms": [3.0, 5.0], "is_new": [1, 0]},
}


class TestInProcess:
    @pytest.mark.parametrize(
        ("model", "data"),
        [
            pytest.param("housing", HOUSES.astype("float64"), id="frame"),
            pytest.param("housing", HOUSES.to_numpy(), id="array"),
            pytest.param("housing", HOUSES.to_numpy().tolist(), id="list"),
            pytest.param("housing", [[80, 3], [120, 5]], id="integers"),
            pytest.param("housing", [{"area": 80, "rooms": 3}, {"rooms": 5, "area": 120.0}], id="dicts"),
            pytest.param(
                "housing", {"area": np.array([80.0, 120]), "rooms": np.array([3.0, 5])}, id="arrays"
            ),
            pytest.param("housing", {"area": [80.0, 120.0], "rooms": [3.0, 5.0]}, id="dict of lists"),
            pytest.param("nameless", HOUSES.to_numpy(), id="array, columns without names"),
            pytest.param("nameless", [[80, 3], [120, 5]], id="list, columns without names"),
            pytest.param("nameless", np.array([[80, 3], [120, 5]]), id="integers, columns without names"),
        ],
    )
    def test_accepts_data_of_every_type(self, predict, models, model, data):
        assert predict(getattr(models, model), data) == pytest.approx(PRICES)

    @pytest.mark.parametrize("data", UNTYPED.values(), ids=UNTYPED)
    def test_casts_whole_numbers_to_the_types_of_the_signature(self, predict, models, data):
        assert predict(models.strict, data) == TYPED_HOUSES.to_dict("records")

    def test_rejects_a_number_that_would_change_and_names_the_column(self, predict, models):
        with pytest.raises(ValueError, match="Column 'rooms', row 1: "):
            predict(models.strict, [[80.0, 3.0, 1], [120.0, 5.5, 0]])

    @pytest.mark.parametrize(
        ("value", "rows"),
        [
            (HOUSES["rooms"], [3, 5]),
            (csr_matrix(np.eye(2)), [[1, 0], [0, 1]]),
            (HOUSES, [{"area": 80.0, "rooms": 3}, {"area": 120.0, "rooms": 5}]),
        ],
        ids=["series", "sparse matrix", "table"],
    )
    def test_passes_data_unchanged_to_a_model_without_a_signature(self, predict, models, value, rows):
        assert predict(models.obedient, {"do": "give_back", "what": value}) == rows

    @pytest.mark.parametrize("uri", ["models:/Housing, predicted@champion", "models:/Housing, predicted/1"])
    def test_accepts_registered_models(self, predict, models, uri):
        assert predict(uri, HOUSES.astype("float64")) == pytest.approx(PRICES)

    def test_keeps_the_model_in_dst_path(self, predict, models, tmp_path):
        predict(f"runs:/{models.run_id}/housing", HOUSES.astype("float64"), dst_path=str(tmp_path / "new"))

        assert list((tmp_path / "new").rglob("MLmodel"))

    def test_runs_in_this_process_and_restores_its_environment(self, predict, models):
        environment = dict(os.environ)

        prefix = predict(models.obedient, {"do": "name_prefix"})

        assert prefix == sys.prefix
        assert dict(os.environ) == environment

    def test_raises_the_models_own_error(self, predict, models):
        with pytest.raises(ValueError, match="no such street"):
            predict(models.obedient, {"do": "fail"})


class TestPredictions:
    def test_may_become_an_artifact_of_a_run(self, predict, models, hook):
        uri = predict(
            models.housing,
            HOUSES.astype("float64"),
            artifact_file="out/predictions.json",
            run_id=models.run_id,
        )

        assert uri == f"runs:/{models.run_id}/out/predictions.json"
        with hook.tracking():
            import mlflow

            assert mlflow.artifacts.load_dict(uri) == pytest.approx(PRICES)

    def test_are_logged_with_their_number_and_destination(self, predict, models, capfd, caplog):
        uri = f"runs:/{models.run_id}/logged.json"
        to_run = {"artifact_file": "logged.json", "run_id": models.run_id}
        for arguments, destination in (({}, "XCom"), (to_run, uri), ({"do_xcom_push": False}, "nothing")):
            predict(models.housing, HOUSES, **arguments)

            log = "".join(capfd.readouterr()) + caplog.text
            line = f"Predicted 2 row(s) with {models.housing} in this process, written to {destination}"
            assert log.count(line) == 1

    @pytest.mark.parametrize("argument", [{"artifact_file": "predictions.json"}, {"run_id": "1"}])
    def test_need_both_file_and_run_to_become_an_artifact(self, predict, models, argument):
        with pytest.raises(ValueError, match="artifact_file and run_id belong together"):
            predict(models.housing, [[1.0, 2.0]], **argument)

    def test_a_missing_run_is_named(self, predict, models):
        with pytest.raises(MLflowProviderError, match=r"'mlflow_default', writing p\.json to run nowhere: "):
            predict(models.housing, [[1.0, 2.0]], artifact_file="p.json", run_id="nowhere")

    @pytest.mark.parametrize(
        "artifact_file",
        ["../climbed.json", "../../../../climbed.json", "a/../../climbed.json", "{tmp_path}/climbed.json"],
    )
    def test_cannot_be_written_outside_the_runs_folder(
        self, predict, models, mlflow_server, tmp_path, artifact_file
    ):
        path = artifact_file.format(tmp_path=tmp_path)

        with pytest.raises(MLflowProviderError, match=f"'mlflow_default', writing {path} to run "):
            predict(models.housing, HOUSES, artifact_file=path, run_id=models.run_id)

        for folder in (mlflow_server.folder, tmp_path):
            assert list(folder.rglob("climbed*")) == []

    def test_are_rejected_if_too_large_for_an_xcom(self, predict, models):
        data = {"do": "give_back", "what": "x" * MAX_XCOM_BYTES}

        with pytest.raises(MLflowProviderError, match=r"1,000,002 bytes.*artifact_file and run_id"):
            predict(models.obedient, data)
        assert predict(models.obedient, data, do_xcom_push=False) is None


class TestErrors:
    @pytest.mark.parametrize(
        ("data", "problem"), [(None, "got None"), ("[[80.0, 3.0]]", "got a string.*as_native_obj")]
    )
    def test_data_that_is_not_rows_is_an_error(self, predict, models, data, problem):
        with pytest.raises(ValueError, match=problem):
            predict(models.housing, data)

    @pytest.mark.parametrize("uri", ["models:/nowhere@champion", "runs:/nowhere/model"])
    def test_a_missing_model_is_named_with_the_connection(self, predict, models, uri):
        with pytest.raises(MLflowProviderError, match=f"'mlflow_default', downloading model {uri}: "):
            predict(uri, HOUSES)

    @pytest.mark.parametrize("value", ["false", "0"])
    def test_a_worker_that_forbids_model_code_loads_no_model(self, predict, models, monkeypatch, value):
        monkeypatch.setenv("MLFLOW_ALLOW_MODEL_CODE_EXECUTION", value)

        with pytest.raises(MLflowProviderError, match=rf"^Model {models.housing} is not loaded: "):
            predict(models.housing, HOUSES)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The folder of the virtualenv that the tests share, as tasks do."""
    return tmp_path_factory.mktemp("cache") / "virtualenvs"


@pytest.fixture
def uv_on_path(monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(find_uv_bin()).parent}:{os.environ['PATH']}")


@pytest.fixture
def predict_elsewhere(predict, models, cache, uv_on_path):
    return lambda data, **arguments: predict(models.elsewhere, data, venv_cache_path=str(cache), **arguments)


class TestInVirtualenv:
    def test_has_a_login_that_appears_in_no_argument_file_log_or_result(
        self, predict_elsewhere, cache, capfd, caplog
    ):
        report = predict_elsewhere({"do": "look_around"})

        assert Path(report["prefix"]).parent == cache
        assert "Housing, predicted" in report["experiments"], "the login works"
        assert any("request.json" in file for file in report["files"])
        log = "".join(capfd.readouterr()) + caplog.text
        assert "predict.py" in log
        cached = "".join(path.read_text(errors="replace") for path in cache.rglob("*") if path.is_file())
        everything = json.dumps(report) + log + cached
        assert ADMIN_PASSWORD not in everything
        assert json.dumps(ADMIN_PASSWORD).strip('"') not in everything

    def test_gets_the_same_input_as_in_the_process(self, predict, predict_elsewhere, models):
        values = [HOUSES, HOUSES["rooms"].astype("int8"), HOUSES.to_numpy(), [1, None, "x"], {"a": np.eye(1)}]
        data = {"do": "describe", "what": values}

        assert predict_elsewhere(data) == predict(models.obedient, data)

    def test_is_reused_by_the_second_task(self, predict_elsewhere, capfd, caplog):
        caplog.set_level("INFO", logger="mlflow_provider")
        predict_elsewhere({"do": "give_back", "what": 1})
        caplog.clear()

        predict_elsewhere({"do": "give_back", "what": 2})

        assert "Using the virtualenv" in caplog.text
        assert "in a virtualenv, written to XCom." in "".join(capfd.readouterr()) + caplog.text
        assert "Building" not in caplog.text

    def test_an_error_is_raised_here_and_has_its_traceback_in_the_log(self, predict_elsewhere, capfd):
        with pytest.raises(
            MLflowProviderError, match=r"model models:/m-.*exited with 1: 'ValueError: no such street'"
        ):
            predict_elsewhere({"do": "fail"})

        assert "in fail" in "".join(capfd.readouterr())

    @pytest.mark.usefixtures("uv_on_path")
    def test_on_kill_stops_it(self, models, cache, mlflow_default, tmp_path):
        file = tmp_path / "pid"
        operator = ModelLoadAndPredictOperator(
            task_id="task",
            model_uri=models.elsewhere,
            data={"do": "sleep", "file": str(file)},
            venv_cache_path=str(cache),
        )

        def kill_when_running():
            while not (file.exists() and file.read_text()):
                time.sleep(0.05)
            operator.on_kill()

        killer = threading.Thread(target=kill_when_running, daemon=True)
        killer.start()
        with pytest.raises(MLflowProviderError, match="exited with -15"):
            operator.execute({})
        killer.join()

        assert not Path("/proc", file.read_text()).exists()

    def test_on_kill_does_nothing_without_a_process(self):
        ModelLoadAndPredictOperator(task_id="task", model_uri="models:/m-1", data=[]).on_kill()


DAG_FILE = """
import numpy as np
import pandas as pd
from airflow.sdk import dag, task

from mlflow_provider.operators.pyfunc import ModelLoadAndPredictOperator

URI = "{uri}"
HOUSES = pd.DataFrame({{"area": [80.0, 120.0], "rooms": [3.0, 5.0]}})


@dag(schedule=None, render_template_as_native_obj=True)
def predict():
    @task
    def rows():
        return [[80.0, 3.0], [120.0, 5.0]]

    @task
    def batches():
        return [[[80.0, 3.0]], [[120.0, 5.0]]]

    data = {{"frame": HOUSES, "array": HOUSES.to_numpy(), "dict": dict(HOUSES), "xcom": rows()}}
    data["list"] = [[80.0, "{{{{ 1 + 2 }}}}"], [120.0, 5.0]]
    data["template"] = "{{{{ ti.xcom_pull('rows') }}}}"
    tasks = {{
        name: ModelLoadAndPredictOperator(task_id=name, model_uri=URI, data=value)
        for name, value in data.items()
    }}
    tasks["xcom"] >> tasks["template"]
    predict = ModelLoadAndPredictOperator.partial
    predict(task_id="mapped", model_uri=URI).expand(data=batches())
    predict(task_id="mapped_frames", model_uri=URI).expand(data=[HOUSES[:1], HOUSES[1:]])
    predict(task_id="mapped_models", data=HOUSES).expand(model_uri=[URI, URI])


predict()
"""

RUN_DAG = """
import json, os
from airflow.dag_processing.dagbag import DagBag
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.utils.db import upgradedb
from airflow.utils.session import create_session

upgradedb()
folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
dag_run = DagBag(folder, bundle_path=folder, bundle_name="dags-folder").dags["predict"].test()
xcoms = {
    f"{task.task_id} {task.map_index}": task.xcom_pull(task.task_id, map_indexes=task.map_index)
    for task in dag_run.get_task_instances()
}
with create_session() as session:
    rendered = [fields.rendered_fields for fields in session.query(RenderedTaskInstanceFields)]
with open(os.path.join(folder, "result.json"), "w") as file:
    json.dump([xcoms, rendered], file)
"""


@pytest.mark.skipif(
    airflow.__version__.startswith("3.1."), reason="3.1 tests only DAGs that it has processed"
)
def test_airflow_renders_and_maps_data_of_every_type_and_stores_none(models, mlflow_default, tmp_path):
    (tmp_path / "predict.py").write_text(DAG_FILE.format(uri=models.housing))
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
    }
    process = subprocess.run(
        [sys.executable, "-c", RUN_DAG], env=environment, check=False, capture_output=True, text=True
    )

    assert process.returncode == 0, process.stderr[-5000:]
    xcoms, rendered = json.loads((tmp_path / "result.json").read_text())
    for name in ("frame", "array", "dict", "xcom", "list", "template", "mapped_models"):
        assert xcoms.get(f"{name} -1", xcoms.get(f"{name} 1")) == pytest.approx(PRICES), name
    for name in ("mapped", "mapped_frames"):
        assert [*xcoms[f"{name} 0"], *xcoms[f"{name} 1"]] == pytest.approx(PRICES), name
    assert models.housing in json.dumps(rendered)
    assert "120.0" not in json.dumps(rendered)
    assert "predict" in process.stdout
    for password in (ADMIN_PASSWORD, json.dumps(ADMIN_PASSWORD).strip('"')):
        assert password not in process.stdout + process.stderr
