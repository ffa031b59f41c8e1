"""MLflow is down, hangs, is slow, or dies while tasks start, log and end."""

from __future__ import annotations

import filecmp
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import psutil
import pytest
from mlflow import MlflowException

from dev.tests.helpers.nested_tasks import nested_task, run_all
from dev.tests.helpers.outages import clear, reported_by_airflow
from mlflow_provider import task_run
from mlflow_provider.exceptions import MLflowProviderError, MLflowUnreachableError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.server import findings
from mlflow_proxy import Fault, run_proxy, wait_until
from mlflow_servers import free_port
from tries import status_of

TASKS = 50
UPLOAD_BYTES = 300_000_000
NO_LONG_WAIT = {"retry_timeout": 1}


class TestStart:
    @pytest.mark.fault(
        "MLflow is down for 5 s when a task starts", sees="the task starts later", green="by itself"
    )
    def test_a_task_waits_for_a_server_that_is_down_for_five_seconds(
        self, mlflow_server, a_try, train, runs, airflow_connection, later
    ):
        port = free_port()
        airflow_connection(host=f"http://127.0.0.1:{port}")
        with ExitStack() as up:
            later(5, lambda: up.enter_context(run_proxy(mlflow_server, port)))
            train()

            assert status_of(runs()) == ["FINISHED"]

    @pytest.mark.parametrize(
        ("outage", "finding"),
        [
            pytest.param(
                "down",
                findings.CONNECTION_REFUSED,
                marks=pytest.mark.fault(
                    "MLflow is down when a task starts, and stays down",
                    sees="within a minute, the task's error: nothing listens on that port; start the server",
                    green="with *Clear*, when MLflow is up",
                ),
            ),
            pytest.param(
                "hanging",
                findings.TIMED_OUT,
                marks=pytest.mark.fault(
                    "MLflow accepts connections but never responds",
                    sees="within a minute, the task's error: the server did not respond in time",
                    green="with *Clear*, when MLflow responds",
                ),
            ),
        ],
    )
    def test_a_task_fails_within_a_minute_and_says_why(
        self, server, a_try, train, runs, fault_is_over, outage, finding
    ):
        with getattr(server, outage)(), pytest.raises(MLflowUnreachableError, match=str(finding)):
            train()
        fault_is_over()
        clear(a_try)
        train()

        assert status_of(runs()) == ["FINISHED"]

    @pytest.mark.fault(
        "MLflow takes 10 s for each response", sees="a task that takes longer", green="by itself"
    )
    def test_a_task_waits_for_a_slow_server(self, mlflow_proxy, train, runs, airflow_connection):
        airflow_connection(host=mlflow_proxy.url)
        mlflow_proxy.delay = 10
        train()
        assert len(mlflow_proxy.requests) >= 4
        mlflow_proxy.delay = 0

        assert status_of(runs()) == ["FINISHED"]

    @pytest.mark.fault(
        'MLflow is down, and the task may run without it (`on_tracking_error="warn"`)',
        sees="a warning in the task's log: This task runs without an MLflow run",
        green="all along",
        lost="what the task logged, as configured",
    )
    def test_with_warn_a_task_runs_without_the_server(self, server, train, runs, caplog):
        with server.down():
            train(on_tracking_error="warn")

        assert "This task runs without an MLflow run" in caplog.text
        assert str(findings.CONNECTION_REFUSED) in caplog.text
        assert status_of(runs()) == []


class TestMiddle:
    @pytest.mark.parametrize(
        ("outage", "seconds"),
        [
            pytest.param(
                "down",
                5,
                marks=pytest.mark.fault(
                    "MLflow is killed in the middle of a task and restarted",
                    sees="a task that takes longer",
                    green="by itself",
                ),
            ),
            pytest.param(
                "hanging",
                10,
                marks=pytest.mark.fault(
                    "MLflow hangs for 10 s in the middle of a task",
                    sees="a task that takes longer",
                    green="by itself",
                ),
            ),
        ],
    )
    def test_a_task_survives_an_outage_of_seconds(
        self, server, a_try, runs, experiment, later, outage, seconds
    ):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment), ExitStack() as away:
            mlflow.log_metric("before", 1)
            away.enter_context(getattr(server, outage)())
            later(seconds, away.close)
            mlflow.log_metric("after", 2)

        [run] = runs()
        assert (run.info.status, run.data.metrics) == ("FINISHED", {"before": 1, "after": 2})

    @pytest.mark.fault(
        "MLflow is killed in the middle of a task, and stays down",
        sees="the task's error names the server's address; its log: MLflow run ... may be left RUNNING",
        green="with *Clear*, when MLflow is up; this also ends the open run",
    )
    @pytest.mark.parametrize("logs", [True, False], ids=["while it logs", "before its end"])
    def test_a_task_whose_server_dies_fails_and_its_run_is_closed_by_the_next_try(
        self, server, a_try, train, runs, experiment, airflow_connection, caplog, logs, fault_is_over
    ):
        import mlflow

        airflow_connection(host=server.url, extra=NO_LONG_WAIT)

        def lose_the_server() -> None:
            with reported_by_airflow(), task_run(context=a_try.context, experiment=experiment):
                mlflow.log_metric("rmse", 0.5)
                server.kill()
                if logs:
                    mlflow.log_metric("mae", 0.4)

        # The mlflow package raises its own error.
        with pytest.raises((MlflowException, MLflowProviderError), match=re.escape(server.url)) as raised:
            lose_the_server()
        assert str(findings.CONNECTION_REFUSED) in caplog.text + str(raised.value)
        server.start()
        airflow_connection(host=server.url)  # with the default retries
        fault_is_over()
        assert status_of(runs()) == ["RUNNING"]
        clear(a_try)
        train()

        left, finished = runs()
        assert (left.info.status, left.data.metrics) == ("KILLED", {"rmse": 0.5})
        assert finished.info.status == "FINISHED"

    @pytest.mark.fault(
        'MLflow dies in the middle of a task, which may continue without it (`on_tracking_error="warn"`)',
        sees="a warning in the task's log: MLflow run ... may be left RUNNING",
        green="all along; the end of the DAG run, or `mlflow_doctor`, ends the run",
    )
    def test_with_warn_a_task_succeeds_although_its_server_was_killed(
        self, server, a_try, runs, experiment, airflow_connection, caplog, fault_is_over
    ):
        import mlflow

        from mlflow_provider import close_open_runs

        airflow_connection(host=server.url, extra=NO_LONG_WAIT)
        with task_run(context=a_try.context, experiment=experiment, on_tracking_error="warn"):
            mlflow.log_metric("rmse", 0.5)
            server.kill()
        assert "may be left RUNNING" in caplog.text
        server.start()
        airflow_connection(host=server.url)  # with the default retries
        fault_is_over()
        close_open_runs({"dag": SimpleNamespace(dag_id="housing"), "run_id": a_try.run_id})

        [run] = runs()
        assert (run.info.status, run.data.metrics) == ("KILLED", {"rmse": 0.5})


class TestEnd:
    @pytest.mark.fault(
        "MLflow answers 503 for 3 minutes when a task ends",
        sees="in the task's log: Retrying",
        green="by itself",
    )
    def test_a_task_waits_for_minutes(self, mlflow_proxy, a_try, runs, experiment, airflow_connection):
        airflow_connection(host=mlflow_proxy.url)
        with task_run(context=a_try.context, experiment=experiment, nested=True):
            mlflow_proxy.faults.append(Fault(status=503, headers={"Retry-After": "1"}, seconds=180))

        assert status_of(runs()) == ["FINISHED", "FINISHED"]  # with the parent


class TestArtifact:
    @pytest.mark.fault(
        "MLflow is killed during an upload and restarted",
        sees="a task that takes longer",
        green="by itself; the artifact is complete",
    )
    def test_an_artifact_that_is_being_uploaded_when_the_server_is_killed_arrives_whole(
        self, tmp_path, server, a_try, experiment, hook, later
    ):
        import mlflow

        file = tmp_path / "weights.bin"
        file.write_bytes(os.urandom(1_000_000) * (UPLOAD_BYTES // 1_000_000))
        had_arrived = []

        def restart() -> None:
            read = psutil.Process().io_counters
            begun = read().read_chars + UPLOAD_BYTES / 3
            wait_until("a third of it is sent", lambda: read().read_chars > begun, pause=0.01)
            server.kill()
            had_arrived.extend(server.folder.rglob(file.name))
            server.start()

        with task_run(context=a_try.context, experiment=experiment) as run:
            later(0, restart)
            mlflow.log_artifact(str(file))

        assert had_arrived == []
        assert hook.client.get_run(run.info.run_id).info.status == "FINISHED"
        downloaded = hook.client.download_artifacts(run.info.run_id, file.name)
        assert filecmp.cmp(downloaded, file, shallow=False)


class TestManyAtOnce:
    @pytest.fixture
    def at_once(self):
        """A function that calls another one in all tasks at once, and returns the results."""

        def run(task) -> list:
            barrier = threading.Barrier(TASKS)

            def wait_and_run(_: int):
                barrier.wait()
                return task()

            with ThreadPoolExecutor(TASKS) as pool:
                return list(pool.map(wait_and_run, range(TASKS)))

        return run

    @pytest.mark.fault(f"{TASKS} tasks create the same experiment at once", sees="nothing", green="by itself")
    def test_they_get_one_experiment(self, mlflow_default, experiment, at_once):
        ids = at_once(lambda: MLflowClientHook().get_or_create_experiment(experiment))

        assert len(set(ids)) == 1

    @pytest.mark.fault(
        f"{TASKS} tasks create the same registered model at once",
        sees="tasks that wait for each other in MLflow",
        green="by itself",
    )
    def test_they_get_one_registered_model(self, mlflow_default, experiment, at_once):
        models = at_once(lambda: MLflowClientHook().create_registered_model(experiment, if_exists="skip"))

        assert [model["registered_model"]["name"] for model in models] == [experiment] * TASKS

    @pytest.mark.timeout(1800)
    @pytest.mark.fault(
        f"{TASKS} tracked tasks start under the same new parent at once",
        sees="tasks that wait for each other in MLflow",
        green="by itself",
    )
    def test_they_get_one_parent(self, mlflow_default, experiment, runs):
        assert run_all(TASKS, TASKS, nested_task, experiment) == []

        parents = {run.data.tags.get("mlflow.parentRunId") for run in runs()} - {None}
        assert len(parents) == 1
        assert status_of(runs()) == ["FINISHED"] * (TASKS + 1)
