"""Each fault at each step of a task leaves exactly one of each thing, with a true status."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from sklearn.linear_model import Ridge

from mlflow_provider import close_open_runs, task_run
from mlflow_provider.exceptions import MLflowAPIError
from mlflow_provider.operators.promotion import PromoteModelVersionOperator
from mlflow_provider.operators.pyfunc import ModelLoadAndPredictOperator
from mlflow_provider.operators.registry import RegisterModelOperator
from mlflow_provider.server import findings
from mlflow_provider.server.package_errors import cause_of
from mlflow_provider.tracking.task_run import correct_end
from mlflow_proxy import GATEWAY_PAGE, NOT_YOURS, Fault
from tries import Try, status_of

if TYPE_CHECKING:
    from mlflow_provider.server.findings import Finding

MODEL = Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
FAULTS = {
    "lost": {"request": "POST", "times": 1, "arrives": 0},
    "503 after the commit": {"request": "POST", "status": 503, "times": 1, "arrives": 0},
    "502": {"status": 502, "body": GATEWAY_PAGE, "seconds": 2},
    "429": {"status": 429, "headers": {"Retry-After": "1"}, "seconds": 2},
}
FAULT = "A response is lost, or MLflow answers 429, 502 or 503 for two seconds, when"


@pytest.fixture(params=list(FAULTS))
def strike(request, mlflow_proxy):
    """A function with which a fault begins."""
    return lambda: mlflow_proxy.faults.append(Fault(**FAULTS[request.param]))


@pytest.fixture
def mlflow_default(mlflow_proxy) -> str:
    return "mlflow_default"


@pytest.mark.fault(f"{FAULT} a task starts", sees="in the task's log: Retrying", green="by itself")
def test_a_task_that_starts_has_one_run_and_one_parent(strike, a_try, experiment, runs, parents):
    strike()
    with task_run(context=a_try.context, experiment=experiment, nested=True):
        assert status_of(runs()) == status_of(parents()) == ["RUNNING"]

    assert status_of(runs()) == status_of(parents()) == ["FINISHED"]


@pytest.mark.fault(f"{FAULT} a task logs", sees="a task that takes longer", green="by itself")
def test_what_a_task_logs_is_there_once(strike, a_try, experiment, runs, hook):
    import mlflow

    with task_run(context=a_try.context, experiment=experiment):
        strike()
        mlflow.log_metric("rmse", 0.5)
        mlflow.log_param("alpha", 1)

    [run] = runs()
    assert (run.info.status, run.data.params) == ("FINISHED", {"alpha": "1"})
    assert {metric.value for metric in hook.client.get_metric_history(run.info.run_id, "rmse")} == {0.5}


@pytest.mark.fault(
    f"{FAULT} a task starts a nested run, or logs a model or a dataset",
    sees="a second nested run, which ends KILLED with the DAG run, or a second model, which stays PENDING; "
    "with the mlflow package 3.18 the task's error: MLflow failed, or its response was lost",
    green="by itself; with the mlflow package 3.18 by its next try",
)
@pytest.mark.parametrize(
    "logs", ["a nested run", "a dataset", "a model", "a model, whose link to the run is lost"]
)
def test_a_task_or_its_next_try_logs(strike, a_try, experiment, runs, hook, mlflow_proxy, logs):
    import mlflow

    def train() -> None:
        with task_run(context=a_try.context, experiment=experiment), mlflow.start_run() as run:
            if a_try.try_number == 1:
                strike()
            if "link" in logs:
                mlflow_proxy.faults[:] = [Fault("runs/outputs", times=2 - a_try.try_number, arrives=0)]
            if "model" in logs:
                mlflow.sklearn.log_model(MODEL, name="model", pip_requirements=["scikit-learn"])
            elif logs == "a dataset":
                mlflow.log_input(mlflow.data.from_numpy(np.zeros(3), name="housing"))
            else:
                with mlflow.start_run(nested=True):
                    pass
        finished.append(run)

    finished: list[mlflow.ActiveRun] = []
    causes: list[Finding | None] = []
    try:
        train()
    except mlflow.MlflowException as error:
        causes.append(cause_of(error))
        a_try.try_number = 2
        train()
    close_open_runs({"dag": SimpleNamespace(dag_id="housing"), "run_id": a_try.run_id})

    assert causes in ([], [findings.RESPONSE_LOST])
    [run] = finished
    assert "RUNNING" not in status_of(runs())
    if "model" in logs:
        experiment_ids = [run.info.experiment_id]
        models = hook.client.search_logged_models(experiment_ids, f"source_run_id = '{run.info.run_id}'")
        assert [model.status for model in models if model.status != "PENDING"] == ["READY"]
    elif logs == "a dataset":
        inputs = hook.client.get_run(run.info.run_id).inputs.dataset_inputs
        assert [each.dataset.name for each in inputs] == ["housing"]
    else:
        children = [each for each in runs() if each.data.tags.get("mlflow.parentRunId") == run.info.run_id]
        assert status_of(children).count("FINISHED") == 1


@pytest.mark.fault(f"{FAULT} a task ends", sees="in the task's log: Retrying", green="by itself")
def test_a_task_that_ends_has_finished_and_so_has_its_parent(strike, a_try, experiment, runs, parents):
    with task_run(context=a_try.context, experiment=experiment, nested=True):
        strike()

    assert status_of(runs()) == status_of(parents()) == ["FINISHED"]


@pytest.mark.fault(f"{FAULT} a task registers a model", sees="in the task's log: Retrying", green="by itself")
def test_a_model_is_registered_once(strike, execute, logged_model, name, hook):
    strike()
    execute(RegisterModelOperator, model_uri=logged_model.uri, name=name)

    assert len(hook.client.search_model_versions(f"name='{name}'")) == 1


@pytest.mark.fault(f"{FAULT} a task promotes a model", sees="in the task's log: Retrying", green="by itself")
def test_an_alias_points_to_the_promoted_version(strike, execute, logged_model, name, hook):
    execute(RegisterModelOperator, model_uri=logged_model.uri, name=name)
    strike()
    execute(PromoteModelVersionOperator, name=name, version="1", metric="rmse", greater_is_better=False)

    assert hook.client.get_registered_model(name).aliases == {"champion": "1"}


@pytest.mark.fault(f"{FAULT} a task predicts", sees="a task that takes longer", green="by itself")
def test_a_model_predicts(strike, execute, logged_model):
    strike()
    data = [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]]

    result = execute(ModelLoadAndPredictOperator, model_uri=logged_model.uri, data=data)
    assert result == pytest.approx(logged_model.predictions)


@pytest.mark.fault(
    f"{FAULT} a DAG run ends",
    sees="in the callback's log: MLflow runs ... may be left RUNNING",
    green="when a later DAG run ends, or with `mlflow_doctor`",
)
def test_a_run_that_the_callback_could_not_close_is_closed_by_the_next(
    strike, a_try, experiment, runs, hook, mlflow_proxy
):
    with task_run(context=a_try.context, experiment=experiment) as run:
        pass
    hook.client.update_run(run.info.run_id, "RUNNING")
    strike()
    context = {"dag": SimpleNamespace(dag_id="housing"), "run_id": a_try.run_id}
    close_open_runs(context)
    mlflow_proxy.faults.clear()
    close_open_runs(context)

    assert status_of(runs()) == ["KILLED"]


class TestEnd:
    @pytest.fixture
    def mlflow_default(self, mlflow_proxy, airflow_connection) -> str:
        return airflow_connection("mlflow_default", host=mlflow_proxy.url, extra={"retry_timeout": 1})

    def test_is_retried_for_ten_times_the_retry_timeout(self, a_try, experiment, runs, mlflow_proxy):
        with task_run(context=a_try.context, experiment=experiment):
            mlflow_proxy.faults.append(Fault(status=503, seconds=6))

        assert status_of(runs()) == ["FINISHED"]

    def test_is_killed_if_the_task_times_out_meanwhile(self, a_try, experiment, runs, mlflow_proxy):
        def time_out(*_):
            raise AirflowTaskTimeout("timed out")

        def train() -> None:
            with task_run(context=a_try.context, experiment=experiment, nested=True):
                mlflow_proxy.faults.append(Fault(status=503, seconds=4))
                signal.setitimer(signal.ITIMER_REAL, 3)

        previous = signal.signal(signal.SIGALRM, time_out)
        with pytest.raises(AirflowTaskTimeout) as raised:
            train()
        signal.signal(signal.SIGALRM, previous)
        correct_end(SimpleNamespace(id=a_try.context["ti"].id, state="failed"), raised.value)

        assert status_of(runs()) == ["KILLED"]


def test_a_task_that_may_not_create_its_run_leaves_the_parent_as_it_was(
    a_try, experiment, parents, mlflow_proxy
):
    with task_run(context=a_try.context, experiment=experiment, nested=True):
        pass
    mlflow_proxy.faults.append(Fault("runs/create", 403, NOT_YOURS))
    other = Try(a_try.run_id, task_id="other")
    with (
        pytest.raises(MLflowAPIError, match="Not yours"),
        task_run(context=other.context, experiment=experiment, nested=True),
    ):
        pytest.fail("the block ran")

    assert status_of(parents()) == ["FINISHED"]
