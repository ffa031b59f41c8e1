"""The run of a task instance on a real MLflow server, for every kind of try, clear and end.

What Airflow would hand to a task stands in ``Try``.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from airflow.sdk import BaseHook

from mlflow_provider import close_open_runs, task_run, version_compat
from mlflow_provider.exceptions import MLflowUnreachableError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.tracking import parent_run
from mlflow_provider.tracking.runs import dag_run_tags
from mlflow_proxy import wait_until
from mlflow_servers import run_mlflow_server
from tries import Try, fail, status_of


class TestStart:
    def test_the_run_is_active_and_its_id_is_an_xcom(self, a_try, runs, experiment):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment) as active:
            mlflow.log_metric("rmse", 0.5)
            assert mlflow.active_run().info.run_id == active.info.run_id == a_try.xcoms["mlflow_run_id"]

        [run] = runs()
        assert run.info.run_id == a_try.xcoms["mlflow_run_id"]
        assert run.data.metrics == {"rmse": 0.5}

    def test_its_tags_lead_back_to_airflow(self, a_try, runs, experiment):
        with task_run(context=a_try.context, experiment=experiment, tags={"kind": "ridge"}):
            pass

        [run] = runs()
        url = f"http://localhost:8080/dags/housing/runs/{a_try.run_id}/tasks/train"
        assert {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")} == {
            "airflow.instance": "tests",
            "airflow.dag_run": f"tests/housing/{a_try.run_id}",
            "airflow.task_instance": f"tests/housing/{a_try.run_id}/train/-1",
            "airflow.dag_id": "housing",
            "airflow.run_id": a_try.run_id,
            "airflow.task_id": "train",
            "airflow.map_index": "-1",
            "airflow.try_id": f"{a_try.run_id}-train--1-1",
            "airflow.try_number": "1",
            "airflow.max_tries": "2",
            "airflow.clear_number": "0",
            "airflow.logical_date": "2026-01-31T00:00:00+00:00",
            "airflow.url": url,
            "airflow.superseded": "false",
            "kind": "ridge",
        }
        assert run.data.tags["mlflow.user"] == "ada"
        assert run.data.tags["mlflow.source.name"] == "housing.train"
        assert url in run.data.tags["mlflow.note.content"]

    def test_its_name_is_logged_without_control_characters(self, a_try, experiment, caplog):
        with (
            caplog.at_level(logging.INFO),
            task_run(context=a_try.context, experiment=experiment, run_name="ri\x1bdge"),
        ):
            pass

        assert "MLflow run ri dge: http" in caplog.text

    def test_its_buttons_lead_to_mlflow(self, a_try, experiment, hook):
        with task_run(context=a_try.context, experiment=experiment) as run:
            page = f"experiments/{run.info.experiment_id}"

        assert a_try.xcoms["mlflow_run_link"] == hook.connection.page(f"{page}/runs/{run.info.run_id}")
        assert a_try.xcoms["mlflow_experiment_link"] == hook.connection.page(page)

    def test_by_default_it_is_named_after_the_task_in_an_experiment_named_after_the_dag(self, a_try, hook):
        with task_run(context=a_try.context):
            pass

        run = hook.client.get_run(a_try.xcoms["mlflow_run_id"])
        assert run.info.run_name == "train"
        assert hook.client.get_experiment(run.info.experiment_id).name == "housing"

    def test_each_map_index_has_its_own(self, a_try, runs, experiment):
        for map_index in (0, 1):
            a_try.map_index = map_index
            with task_run(context=a_try.context, experiment=experiment):
                pass

        assert [run.info.run_name for run in runs()] == ["train[0]", "train[1]"]

    def test_more_parameters_than_a_request_takes_arrive(self, a_try, runs, experiment):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment):
            mlflow.log_params({f"fold_{number}": number for number in range(250)})

        [run] = runs()
        assert len(run.data.params) == 250

    def test_runs_the_block_starts_inside_it_belong_to_it_and_its_experiment(self, a_try, runs, experiment):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment), mlflow.start_run(nested=True) as fold:
            pass

        run, _ = runs()
        assert fold.info.experiment_id == run.info.experiment_id
        assert fold.data.tags["mlflow.parentRunId"] == run.info.run_id

    def test_autolog_logs_what_is_fitted(self, a_try, runs, experiment):
        from sklearn.linear_model import Ridge

        with task_run(context=a_try.context, experiment=experiment, autolog={"log_models": False}):
            Ridge(alpha=2.0).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])

        [run] = runs()
        assert run.data.params["alpha"] == "2.0"

    def test_several_fits_under_autolog_in_one_run_cause_one_warning(self, a_try, experiment, caplog):
        from sklearn.linear_model import Lasso, Ridge

        with task_run(context=a_try.context, experiment=experiment, autolog={"log_models": False}):
            for estimator in (Ridge(), Lasso(), Ridge(alpha=2.0)):
                estimator.fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])

        assert caplog.text.count("Put each fit under autolog into a `with mlflow.start_run():`") == 1

    def test_several_blocks_of_a_try_share_one(self, a_try, runs, parents, experiment):
        import mlflow

        for block in range(2):  # as a sensor's that looks twice
            with task_run(context=a_try.context, experiment=experiment, nested=True):
                assert status_of([*runs(), *parents()]) == ["RUNNING", "RUNNING"]
                mlflow.log_metric(f"rmse_{block}", 0.5)

        [run] = runs()
        assert (run.info.status, run.data.metrics) == ("FINISHED", {"rmse_0": 0.5, "rmse_1": 0.5})
        assert status_of(parents()) == ["FINISHED"]

    def test_its_traces_have_the_tags_of_the_task(self, a_try, experiment, hook):
        import mlflow

        if mlflow.__version__.startswith("3.0."):
            pytest.skip("MLflow 3.0 loses traces")
        with task_run(context=a_try.context, experiment=experiment) as run, mlflow.start_span("predict"):
            pass

        [trace] = hook.client.search_traces([run.info.experiment_id])
        assert trace.info.request_metadata["mlflow.sourceRun"] == run.info.run_id
        if hasattr(mlflow.tracing, "context"):  # not in older versions of MLflow
            assert trace.info.tags["airflow.task_id"] == "train"


class TestTrainingCode:
    """Code written without Airflow starts its own run."""

    def test_its_run_is_the_run_of_the_task(self, a_try, runs, experiment):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment) as of_task:
            with mlflow.start_run(run_name="ridge", tags={"kind": "linear"}, description="No frills.") as run:
                mlflow.log_param("alpha", 1)
            assert run.info.run_id == of_task.info.run_id
            assert status_of(runs()) == ["RUNNING"]
            mlflow.log_metric("rmse", 0.5)

        [run] = runs()
        assert (run.info.run_name, run.info.status) == ("ridge", "FINISHED")
        assert (run.data.params, run.data.metrics) == ({"alpha": "1"}, {"rmse": 0.5})
        assert run.data.tags["kind"] == "linear"
        assert run.data.tags["mlflow.note.content"] == "No frills."

    def test_its_other_runs_are_children_that_overwrite_nothing(self, a_try, runs, experiment):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment):
            for alpha in range(3):
                with mlflow.start_run(run_name=f"ridge {alpha}"):
                    mlflow.log_param("alpha", alpha)
                    mlflow.log_metric("rmse", alpha)
            mlflow.log_metric("best_rmse", 0)

        run, *children = runs()
        assert [each.info.run_name for each in (run, *children)] == ["ridge 0", "ridge 1", "ridge 2"]
        assert [each.data.params["alpha"] for each in (run, *children)] == ["0", "1", "2"]
        assert run.data.metrics == {"rmse": 0.0, "best_rmse": 0.0}
        for child in children:
            assert child.info.status == "FINISHED"
            assert child.data.tags["mlflow.parentRunId"] == run.info.run_id
            assert child.data.tags["airflow.task_id"] == "train"
            assert child.data.tags["mlflow.note.content"].startswith("[Task instance in Airflow](")

    def test_a_run_that_another_task_started_is_continued(self, a_try, runs, experiment, hook):
        import mlflow

        other = hook.client.create_run(hook.get_or_create_experiment(f"{experiment}, other"))
        with task_run(context=a_try.context, experiment=experiment):
            with mlflow.start_run(run_id=other.info.run_id):
                mlflow.log_metric("rmse", 0.5)
            mlflow.log_param("alpha", 1)

        continued = hook.client.get_run(other.info.run_id)
        assert (continued.info.status, continued.data.metrics) == ("FINISHED", {"rmse": 0.5})
        [run] = runs()
        assert (run.data.params, run.data.metrics) == ({"alpha": "1"}, {})

    @pytest.mark.parametrize("by_tag", [True, False])
    def test_a_parent_of_its_own_is_kept_and_not_ended(self, a_try, runs, experiment, hook, by_tag):
        import mlflow

        parent = hook.client.create_run(hook.get_or_create_experiment(experiment)).info.run_id
        tags = {"mlflow.parentRunId": parent}
        with task_run(context=a_try.context, experiment=experiment, tags=tags):
            with mlflow.start_run(run_name="taken"):
                pass
            with mlflow.start_run(**({"tags": tags} if by_tag else {"parent_run_id": parent})):
                pass

        assert hook.client.get_run(parent).info.status == "RUNNING"
        _, *others = runs()
        assert [run.data.tags["mlflow.parentRunId"] for run in others] == [parent, parent]

    @pytest.mark.parametrize("call", ["set_experiment", "start_run"])
    def test_an_experiment_of_its_own_causes_one_warning(self, a_try, runs, experiment, hook, caplog, call):
        import mlflow

        other = f"{experiment}, other"
        with task_run(context=a_try.context, experiment=experiment):
            for _ in range(2):
                if call == "set_experiment":
                    assert mlflow.set_experiment(other).name == experiment
                with mlflow.start_run(experiment_id="0" if call == "start_run" else None):
                    pass

        assert status_of(runs()) == ["FINISHED"] * 2
        assert hook.client.get_experiment_by_name(other) is None
        assert caplog.text.count(f"mlflow.{call}() cannot change the experiment") == 1
        assert "Use @task.mlflow(experiment=" in caplog.text

    def test_its_experiment_may_be_that_of_the_task(self, a_try, runs, experiment, caplog):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment):
            mlflow.set_experiment(experiment)
            with mlflow.start_run():
                pass

        assert status_of(runs()) == ["FINISHED"]
        assert "cannot change the experiment" not in caplog.text

    @pytest.mark.parametrize("starts", [0, 2])
    def test_another_tracking_uri_causes_one_warning(self, a_try, mlflow_server, experiment, caplog, starts):
        import mlflow

        other = f"{mlflow_server.url}/"
        with task_run(context=a_try.context, experiment=experiment):
            mlflow.set_tracking_uri(other)
            for _ in range(starts):
                with mlflow.start_run():
                    pass

        warning = f"has set {other}, but this task's run is on {mlflow_server.url}. Remove the call"
        assert caplog.text.count(warning) == 1

    @pytest.mark.parametrize("of_task", [True, False])
    def test_system_metrics_are_logged_until_the_end_of_the_task(self, a_try, runs, experiment, of_task):
        import mlflow

        mlflow.set_system_metrics_sampling_interval(0.1)
        with (
            task_run(context=a_try.context, experiment=experiment, log_system_metrics=of_task),
            mlflow.start_run(log_system_metrics=not of_task or None),
        ):
            time.sleep(0.5)

        [run] = runs()
        assert run.info.status == "FINISHED"
        assert "system/cpu_utilization_percentage" in run.data.metrics

    def test_an_argument_that_is_new_in_mlflow_reaches_it(self, a_try, experiment, monkeypatch):
        import mlflow

        received = {}
        original = mlflow.start_run

        def start_run(run_id=None, nested=False, novelty=None, log_system_metrics=None):
            received[novelty] = run_id
            return original(run_id=run_id, nested=nested, log_system_metrics=log_system_metrics)

        monkeypatch.setattr(mlflow, "start_run", start_run)
        with task_run(context=a_try.context, experiment=experiment) as run, mlflow.start_run(novelty=1):
            pass

        assert received[1] == run.info.run_id

    def test_a_stray_end_run_leaves_the_run_open(self, a_try, runs, experiment):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment):
            mlflow.end_run()
            mlflow.log_metric("rmse", 0.5)

        [run] = runs()
        assert run.data.metrics == {"rmse": 0.5}

    def test_its_error_fails_the_task(self, a_try, runs, experiment):
        import mlflow

        def train() -> None:
            with task_run(context=a_try.context, experiment=experiment), mlflow.start_run():
                raise ValueError("no sales")

        with pytest.raises(ValueError, match="no sales"):
            train()
        assert status_of(runs()) == ["FAILED"]

    def test_nested_runs_are_children(self, a_try, runs, experiment):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment), mlflow.start_run():
            for _ in range(2):
                with mlflow.start_run(nested=True):
                    mlflow.log_metric("rmse", 0.5)

        run, *children = runs()
        assert status_of(children) == ["FINISHED", "FINISHED"]
        assert {child.data.tags["mlflow.parentRunId"] for child in children} == {run.info.run_id}

    def test_runs_of_the_client_are_its_own(self, a_try, runs, experiment):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment) as run:
            mlflow.MlflowClient().create_run(run.info.experiment_id, run_name="client")

        [of_client] = [run for run in runs() if run.info.run_name == "client"]
        assert of_client.info.status == "RUNNING"
        assert set(of_client.data.tags) == {"mlflow.runName"}

    def test_runs_of_the_client_with_the_tags_of_its_context_are_children(self, a_try, runs, experiment):
        import mlflow
        from mlflow.tracking.context.registry import resolve_tags  # which Lightning's logger uses

        with task_run(context=a_try.context, experiment=experiment) as run:
            tags = resolve_tags({"mlflow.runName": "lightning"})
            mlflow.MlflowClient().create_run(run.info.experiment_id, tags=tags)

        [child] = [run for run in runs() if run.info.run_name == "lightning"]
        assert child.data.tags["mlflow.parentRunId"] == run.info.run_id
        assert child.data.tags["airflow.task_id"] == "train"

    def test_what_it_imported_by_name_starts_other_runs_afterwards(self, a_try, runs, experiment, hook):
        with task_run(context=a_try.context, experiment=experiment):
            from mlflow import start_run
        with hook.tracking():
            import mlflow

            mlflow.set_experiment(experiment)
            with start_run():
                pass

        assert status_of(runs()) == ["FINISHED", "FINISHED"]


class TestEnd:
    @pytest.mark.parametrize(
        ("error", "status", "reason"),
        [
            (None, "FINISHED", None),
            (ValueError("no sales in 2011"), "FAILED", "ValueError: no sales in 2011"),
            (AirflowTaskTimeout("PID: 7"), "KILLED", "Timed out after 0:01:30 (execution_timeout)"),
            (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt: "),
            (AirflowSkipException("nothing new"), "FINISHED", None),
        ],
        ids=["success", "error", "timeout", "interrupt", "skip"],
    )
    def test_the_status_and_the_reason_are_those_of_the_block(
        self, a_try, runs, experiment, error, status, reason
    ):
        with suppress(BaseException), task_run(context=a_try.context, experiment=experiment):
            if error:
                raise error

        [run] = runs()
        assert (run.info.status, run.data.tags.get("airflow.reason")) == (status, reason)

    @pytest.mark.parametrize("leave", [None, ValueError("stop")])
    def test_runs_the_block_leaves_open_end_with_it(self, a_try, runs, experiment, leave):
        import mlflow

        def block():
            with task_run(context=a_try.context, experiment=experiment):
                mlflow.start_run(nested=True)
                if leave:
                    raise leave

        if leave:
            with pytest.raises(ValueError, match="stop"):
                block()
        else:
            block()

        assert status_of(runs()) == (["FAILED", "FAILED"] if leave else ["FINISHED", "FINISHED"])

    def test_a_run_the_block_has_ended_itself_ends_as_the_block_does(self, a_try, runs, experiment):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment):
            mlflow.end_run("FAILED")

        assert status_of(runs()) == ["FINISHED"]

    def test_a_secret_in_the_reason_is_masked(self, a_try, runs, experiment):
        from airflow.sdk.log import mask_secret

        mask_secret("geheim-4711")
        fail(a_try, ValueError("login with geheim-4711 refused"), experiment=experiment)

        [run] = runs()
        assert run.data.tags["airflow.reason"] == "ValueError: login with *** refused"


def log(seed: int) -> None:
    """Log values that cannot be logged twice in a run, and values that would mix."""
    import mlflow

    mlflow.log_param("seed", seed)
    mlflow.log_metric("rmse", seed)
    mlflow.log_text("done", f"{seed}.txt")


@pytest.fixture
def in_each_run(runs, hook) -> Callable[[], list[tuple[str, float, list[str]]]]:
    """A function that returns what :func:`log` logged to each run: parameter, metric, artifacts."""

    def look() -> list[tuple[str, float, list[str]]]:
        client = hook.client
        return [
            (
                run.data.params["seed"],
                run.data.metrics["rmse"],
                [file.path for file in client.list_artifacts(run.info.run_id)],
            )
            for run in runs()
        ]

    return look


TWO_RUNS = [("1", 1.0, ["1.txt"]), ("2", 2.0, ["2.txt"])]


class TestNextTry:
    def test_a_retry_starts_its_own_run_with_a_link_to_the_previous_one(
        self, a_try, runs, experiment, in_each_run
    ):
        with suppress(ValueError), task_run(context=a_try.context, experiment=experiment):
            log(1)
            raise ValueError("no sales")
        a_try.try_number = 2
        with task_run(context=a_try.context, experiment=experiment):
            log(2)

        failed, finished = runs()
        assert status_of([failed, finished]) == ["FAILED", "FINISHED"]
        assert failed.data.tags["airflow.reason"] == "ValueError: no sales"
        assert finished.data.tags["airflow.retry_of"] == failed.info.run_id
        assert in_each_run() == TWO_RUNS

    def test_a_retry_with_continue_continues_the_run(self, a_try, runs, experiment, in_each_run):
        import mlflow

        arguments = {"experiment": experiment, "retry": "continue"}
        with suppress(ValueError), task_run(context=a_try.context, **arguments):
            log(1)
            raise ValueError("no sales")
        a_try.try_number = 2
        with task_run(context=a_try.context, **arguments):
            assert status_of(runs()) == ["RUNNING"]
            mlflow.log_metric("rmse", 0.5, step=2)
            mlflow.log_text("done", "2.txt")

        [run] = runs()
        assert run.info.status == "FINISHED"
        assert in_each_run() == [("1", 0.5, ["1.txt", "2.txt"])]
        assert (run.data.tags["airflow.try_number"], run.data.tags["airflow.reason"]) == ("2", "")

    def test_a_failed_runs_description_begins_with_the_reason_until_a_retry_continues_it(
        self, a_try, runs, experiment
    ):
        import mlflow

        arguments = {"experiment": experiment, "retry": "continue"}
        with (
            suppress(ValueError),
            task_run(context=a_try.context, **arguments),
            mlflow.start_run(description="With checkpoints."),
        ):
            raise ValueError("no sales\nin January")
        [failed] = runs()
        a_try.try_number = 2
        with task_run(context=a_try.context, **arguments):
            pass

        [finished] = runs()
        descriptions = [run.data.tags["mlflow.note.content"] for run in (failed, finished)]
        assert descriptions == ["ValueError: no sales\n\nWith checkpoints.", "With checkpoints."]

    @pytest.mark.fault(
        "A task's process is killed (`kill -9`), and there are retries",
        sees="the run of that try KILLED, with the reason",
        green="by its next try",
    )
    def test_a_retry_of_a_try_that_was_killed_starts_its_own_run(
        self, a_try, runs, experiment, hook, in_each_run
    ):
        with task_run(context=a_try.context, experiment=experiment) as run:
            log(1)
        hook.client.update_run(run.info.run_id, "RUNNING")
        a_try.try_number = 2
        with task_run(context=a_try.context, experiment=experiment):
            log(2)

        killed, finished = runs()
        assert status_of([killed, finished]) == ["KILLED", "FINISHED"]
        assert finished.data.tags["airflow.retry_of"] == killed.info.run_id
        assert in_each_run() == TWO_RUNS

    def test_a_task_that_was_cleared_after_its_end_starts_a_new_run(
        self, a_try, runs, experiment, in_each_run
    ):
        with task_run(context=a_try.context, experiment=experiment):
            log(1)
        a_try.try_number, a_try.max_tries, a_try.clear_number = 2, 3, 1
        with task_run(context=a_try.context, experiment=experiment):
            log(2)

        assert status_of(runs()) == ["FINISHED", "FINISHED"]
        assert in_each_run() == TWO_RUNS
        assert "airflow.retry_of" not in runs()[1].data.tags

    def test_a_task_that_was_cleared_while_it_ran_starts_a_new_run_and_the_old_one_is_killed(
        self, a_try, runs, experiment, hook, in_each_run
    ):
        with task_run(context=a_try.context, experiment=experiment) as run:
            log(1)
        hook.client.update_run(run.info.run_id, "RUNNING")
        a_try.try_number, a_try.clear_number = 2, 1
        with task_run(context=a_try.context, experiment=experiment):
            log(2)

        assert status_of(runs()) == ["KILLED", "FINISHED"]
        assert in_each_run() == TWO_RUNS

    def test_a_deferred_task_continues_its_run(self, a_try, runs, experiment, in_each_run):
        import mlflow

        [deferred, *_] = version_compat.DEFERRALS
        pause = deferred(trigger=None, method_name="execute_complete")
        with suppress(deferred), task_run(context=a_try.context, experiment=experiment):
            log(1)
            raise pause
        assert status_of(runs()) == ["RUNNING"]
        with task_run(context=a_try.context, experiment=experiment):
            mlflow.log_text("done", "2.txt")

        assert status_of(runs()) == ["FINISHED"]
        assert in_each_run() == [("1", 1.0, ["1.txt", "2.txt"])]


@pytest.fixture
def end_of_dag_run(a_try) -> Callable[[], None]:
    context = {"dag": SimpleNamespace(dag_id="housing"), "run_id": a_try.run_id}
    return lambda: close_open_runs(context)


class TestOpenRuns:
    def test_a_run_left_open_was_killed_with_the_reason(self, a_try, runs, experiment, hook, end_of_dag_run):
        with task_run(context=a_try.context, experiment=experiment) as run:
            pass
        hook.client.update_run(run.info.run_id, "RUNNING")
        end_of_dag_run()

        [run] = runs()
        assert run.info.status == "KILLED"
        assert "left open when its DAG run ended" in run.data.tags["airflow.reason"]

    def test_outside_of_tasks_as_in_dags_test_the_connection_is_found(
        self, a_try, runs, experiment, hook, end_of_dag_run, monkeypatch
    ):
        with task_run(context=a_try.context, experiment=experiment) as run:
            pass
        hook.client.update_run(run.info.run_id, "RUNNING")
        monkeypatch.setattr(BaseHook, "get_connection", Mock(side_effect=AirflowNotFoundException))
        end_of_dag_run()

        assert [run.info.status for run in runs()] == ["KILLED"]

    def test_its_parent_ends_with_it(self, a_try, parents, experiment, hook, end_of_dag_run):
        with task_run(context=a_try.context, experiment=experiment, nested=True) as run:
            hook.client.set_terminated(run.info.run_id, "FINISHED")
        hook.client.update_run(run.info.run_id, "RUNNING")
        hook.client.update_run(run.data.tags["mlflow.parentRunId"], "RUNNING")
        end_of_dag_run()

        assert status_of(parents()) == ["KILLED"]

    def test_runs_that_have_ended_do_not_change(self, a_try, runs, experiment, end_of_dag_run):
        fail(a_try, ValueError("no sales"), experiment=experiment)
        end_of_dag_run()

        assert status_of(runs()) == ["FAILED"]

    def test_runs_of_another_dag_run_do_not_change(self, a_try, runs, experiment, end_of_dag_run):
        other = Try(f"{a_try.run_id}-2")
        with task_run(context=other.context, experiment=experiment):
            end_of_dag_run()
            assert status_of(runs()) == ["RUNNING"]

    @pytest.mark.skipif(not version_compat.CALLBACKS_CAN_QUERY_TASKS, reason="not with Airflow 3.1")
    @pytest.mark.parametrize(("state", "status"), [("failed", "KILLED"), ("running", "RUNNING")])
    def test_the_end_of_a_later_dag_run_closes_it_if_its_task_has_ended(
        self, a_try, runs, parents, experiment, hook, state, status
    ):
        with task_run(context=a_try.context, experiment=experiment, nested=True) as run:
            pass
        for run_id in (run.info.run_id, run.data.tags["mlflow.parentRunId"]):
            hook.client.update_run(run_id, "RUNNING")
        ti = SimpleNamespace(get_task_states=lambda dag_id, run_ids: {a_try.run_id: {"train": state}})
        close_open_runs({"dag": SimpleNamespace(dag_id="housing"), "run_id": "a later one", "ti": ti})

        assert status_of(runs()) == status_of(parents()) == [status]

    def test_without_open_runs_nothing_changes(self, runs, end_of_dag_run, caplog):
        end_of_dag_run()

        assert runs() == []
        assert caplog.text == ""

    def test_a_server_that_is_down_is_only_logged(self, a_try, airflow_connection, end_of_dag_run, caplog):
        airflow_connection(host="http://127.0.0.1:9", extra={"retries": 0})
        end_of_dag_run()

        assert "may be left RUNNING" in caplog.text


class TestParent:
    def test_the_tasks_of_a_dag_run_share_one(self, a_try, runs, parents, experiment):
        for task_id in ("scale", "train"):
            a_try.task_id = task_id
            with task_run(context=a_try.context, experiment=experiment, nested=True):
                assert status_of(parents()) == ["RUNNING"]

        [parent] = parents()
        assert re.fullmatch(r"housing, \d{4}-\d\d-\d\d \d\d:\d\d", parent.info.run_name)
        assert parent.info.status == "FINISHED"
        assert [run.data.tags["mlflow.parentRunId"] for run in runs()] == [parent.info.run_id] * 2

    def test_another_dag_run_has_another(self, a_try, parents, experiment):
        for run_id in (a_try.run_id, f"{a_try.run_id}-2"):
            a_try.run_id = run_id
            with task_run(context=a_try.context, experiment=experiment, nested=True):
                pass

        assert len(parents()) == 2

    def test_another_experiment_has_another(self, a_try, runs, parents, experiment, hook):
        other = f"{experiment}-2"
        for name in (experiment, other):
            with task_run(context=a_try.context, experiment=name, nested=True):
                pass

        result = hook.client.search_runs(
            [hook.get_or_create_experiment(other)], "tags.`airflow.parent_run` LIKE '%'"
        )
        assert len(parents()) == len(result) == 1
        assert parents()[0].info.run_id != result[0].info.run_id

    def test_tasks_that_start_at_the_same_moment_agree_on_one(
        self, mlflow_default, hook, experiment, parents
    ):
        experiment_id = hook.get_or_create_experiment(experiment)
        together = threading.Barrier(16)
        tags = dag_run_tags("housing", experiment)

        def get_or_create(_: int) -> str:
            racing = MLflowClientHook()
            together.wait()
            return parent_run.get_or_create(racing, experiment_id, tags, others_running=True).run_id

        with ThreadPoolExecutor(16) as pool:
            chosen = set(pool.map(get_or_create, range(16)))

        assert chosen == {run.info.run_id for run in parents()}
        assert len(chosen) == 1

    def test_of_a_deleted_one_later_tasks_get_another(self, a_try, runs, parents, experiment, hook):
        for _ in range(2):
            with task_run(context=a_try.context, experiment=experiment, nested=True):
                [parent] = parents()
                hook.client.delete_run(parent.info.run_id)
            a_try.task_id = "evaluate"

        assert status_of(runs()) == ["FINISHED", "FINISHED"]
        assert parents() == []

    @pytest.mark.parametrize("retry", ["new", "continue"])
    def test_of_a_deleted_one_a_retry_gets_another(self, a_try, runs, parents, experiment, hook, retry):
        fail(a_try, ValueError("no sales"), experiment=experiment, nested=True, retry=retry)
        [deleted] = parents()
        hook.client.delete_run(deleted.info.run_id)
        a_try.try_number = 2
        with task_run(context=a_try.context, experiment=experiment, nested=True, retry=retry):
            pass

        [parent] = parents()
        assert runs()[-1].data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert (runs()[-1].info.status, parent.info.status) == ("FINISHED", "FINISHED")

    @pytest.mark.parametrize("ends_first", [True, False])
    def test_tasks_that_chose_different_parents_end_under_the_first(
        self, a_try, runs, parents, experiment, hook, end_of_dag_run, ends_first
    ):
        tags = {**dag_run_tags("housing", a_try.run_id), parent_run.TAG: "true"}
        experiment_id = hook.get_or_create_experiment(experiment)
        with task_run(context=a_try.context, experiment=experiment, nested=True):
            first = hook.client.create_run(experiment_id, start_time=1, tags=tags)
            if not ends_first:
                with task_run(context=Try(a_try.run_id, "other").context, experiment=experiment, nested=True):
                    pass
        end_of_dag_run()

        assert [(run.info.run_id, run.info.status) for run in parents()] == [(first.info.run_id, "FINISHED")]
        assert {run.data.tags["mlflow.parentRunId"] for run in runs()} == {first.info.run_id}

    def test_it_fails_with_a_task_and_recovers_with_its_retry(self, a_try, parents, experiment):
        fail(a_try, ValueError("no sales"), experiment=experiment, nested=True)
        assert status_of(parents()) == ["RUNNING"]  # there will be a retry
        a_try.try_number = 2
        with task_run(context=a_try.context, experiment=experiment, nested=True):
            pass

        assert status_of(parents()) == ["FINISHED"]

    @pytest.mark.parametrize("error", [ValueError("no sales"), AirflowFailException("no use")])
    def test_it_fails_with_a_task_that_is_not_retried(self, a_try, parents, experiment, error):
        a_try.max_tries = 2 if isinstance(error, AirflowFailException) else 0
        fail(a_try, error, experiment=experiment, nested=True)

        assert status_of(parents()) == ["FAILED"]

    def test_it_recovers_with_a_task_that_is_cleared(self, a_try, parents, experiment):
        a_try.max_tries = 0
        fail(a_try, ValueError("no sales"), experiment=experiment, nested=True)
        a_try.try_number, a_try.max_tries, a_try.clear_number = 2, 1, 1
        with task_run(context=a_try.context, experiment=experiment, nested=True):
            assert status_of(parents()) == ["RUNNING"]

        assert status_of(parents()) == ["FINISHED"]

    def test_it_runs_until_its_last_child_has_ended(self, a_try, parents, experiment):
        other = Try(a_try.run_id, task_id="other", max_tries=0)
        with task_run(context=a_try.context, experiment=experiment, nested=True):
            fail(other, ValueError("no sales"), experiment=experiment, nested=True)
            assert status_of(parents()) == ["RUNNING"]

        assert status_of(parents()) == ["FAILED"]

    def test_a_task_that_is_interrupted_before_its_block_leaves_no_run_open(
        self, a_try, runs, experiment, monkeypatch
    ):
        def time_out(*_: Any) -> None:
            raise AirflowTaskTimeout

        monkeypatch.setattr("mlflow_provider.tracking.task_run.autologging", time_out)
        with (
            pytest.raises(AirflowTaskTimeout),
            task_run(context=a_try.context, experiment=experiment),
        ):
            pytest.fail("the block ran")

        assert status_of(runs()) == ["KILLED"]


class TestProcess:
    def test_environment_active_run_and_autologging_are_restored(
        self, a_try, experiment, tmp_path, untouched_mlflow
    ):
        import mlflow
        from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
        with mlflow.start_run() as outer:
            os.environ["MLFLOW_RUN_ID"] = "of somebody else"
            baseline = dict(os.environ), mlflow.get_tracking_uri(), dict(AUTOLOGGING_INTEGRATIONS)
            fail(a_try, ValueError("stop"), experiment=experiment, autolog=True)
            assert (dict(os.environ), mlflow.get_tracking_uri(), dict(AUTOLOGGING_INTEGRATIONS)) == baseline
            assert mlflow.active_run() is outer

    def test_the_active_model_is_cleared(self, a_try, experiment, untouched_mlflow):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment):
            mlflow.set_active_model(name="ridge")
            assert mlflow.get_active_model_id()

        assert mlflow.get_active_model_id() is None
        assert not [name for name in os.environ if "ACTIVE_MODEL" in name]

    def test_messages_of_mlflow_are_not_errors_in_the_task_log(self, a_try, experiment, caplog, capfd):
        from mlflow.utils.logging_utils import eprint

        with task_run(context=a_try.context, experiment=experiment):
            logging.getLogger("mlflow.sklearn").warning("Model without signature.")
            eprint("Successfully registered model 'Housing'.")

        assert (
            "mlflow.sklearn",
            logging.WARNING,
            "Model without signature.",
        ) in caplog.record_tuples
        assert ("mlflow", logging.INFO, "Successfully registered model 'Housing'.") in caplog.record_tuples
        written = (
            capfd.readouterr().err
        )  # by MLflow itself; Airflow 3.1 logs to stderr here, in its own format
        assert "WARNING mlflow.sklearn: " not in written
        assert "Successfully registered model 'Housing'." not in written.splitlines()

    def test_system_metrics_are_logged_if_enabled(self, a_try, runs, experiment, monkeypatch):
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
        monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
        with task_run(context=a_try.context, experiment=experiment):
            wait_until("metrics are there", lambda: bool(runs()[0].data.metrics))
        threads = [thread.name for thread in threading.enumerate()]

        assert "SystemMetricsMonitor" not in threads
        assert any(name.startswith("system/") for name in runs()[0].data.metrics)

    def test_what_is_logged_asynchronously_arrives(self, a_try, runs, experiment):
        import mlflow

        with task_run(context=a_try.context, experiment=experiment):
            mlflow.log_metrics({f"rmse_{fold}": fold for fold in range(100)}, synchronous=False)

        [run] = runs()
        assert len(run.data.metrics) == 100

    def test_nothing_is_autologged_afterwards(self, a_try, runs, experiment, hook):
        with task_run(context=a_try.context, experiment=experiment, autolog=True):
            pass
        with hook.tracking():
            import mlflow
            from sklearn.linear_model import Ridge

            mlflow.set_experiment(experiment)
            Ridge().fit([[0.0], [1.0]], [0.0, 1.0])

        assert len(runs()) == 1


class TestUnreachable:
    @pytest.fixture
    def nobody(self, airflow_connection) -> None:
        airflow_connection(host="http://127.0.0.1:9", extra={"retries": 0})

    def test_the_task_fails_with_the_fix(self, a_try, nobody):
        advice = "nothing listens on that port; start the server"
        with pytest.raises(MLflowUnreachableError, match=advice), task_run(context=a_try.context):
            pytest.fail("the block ran")

    @pytest.mark.parametrize(
        ("arguments", "enabled", "reason"),
        [
            ({"on_tracking_error": "warn"}, "True", "nothing listens on that port"),
            ({}, "False", "MLflow is switched off by Airflow's setting [mlflow] enabled"),
        ],
    )
    def test_with_warn_or_switched_off_the_block_runs_and_what_it_logs_is_discarded(
        self, a_try, nobody, caplog, monkeypatch, arguments, enabled, reason
    ):
        import mlflow

        monkeypatch.setenv("AIRFLOW__MLFLOW__ENABLED", enabled)
        with task_run(context=a_try.context, **arguments) as run:
            mlflow.log_metric("rmse", 0.5)
            mlflow.log_text("sales", "sales.txt")
            folder = Path(mlflow.get_tracking_uri().removeprefix("file://"))
            assert folder.is_dir()

        assert run is None
        assert not folder.exists()
        [line] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert reason in line
        assert "mlflow_run_id" not in a_try.xcoms

    def test_with_warn_an_error_of_the_block_is_raised(self, a_try, nobody):
        fail(a_try, ValueError("no sales"), on_tracking_error="warn")


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ({"on_tracking_error": "ignore"}, "on_tracking_error is 'ignore'; choose 'fail' or 'warn'"),
        ({"retry": "never"}, "retry is 'never'; choose 'new' or 'continue'"),
    ],
)
def test_an_invalid_argument_is_rejected(a_try, arguments, advice):
    with pytest.raises(ValueError, match=advice), task_run(context=a_try.context, **arguments):
        pass


def test_a_server_that_is_down_at_the_end_fails_the_task_unless_with_warn(
    tmp_path, airflow_connection, caplog
):
    error = ValueError("no sales")
    with run_mlflow_server(tmp_path) as server:
        airflow_connection(**server.connection, extra={"retries": 0})
        succeeds, warns, fails = [
            task_run(context=Try("manual", task_id=task_id).context, on_tracking_error=on_tracking_error)
            for task_id, on_tracking_error in [("a", "fail"), ("b", "warn"), ("c", "fail")]
        ]
        for block in (succeeds, warns, fails):
            block.__enter__()

    assert fails.__exit__(ValueError, error, None) is False  # the error of the block is the one to be seen
    assert "may be left RUNNING" in caplog.text
    caplog.clear()
    warns.__exit__(None, None, None)
    assert "may be left RUNNING" in caplog.text
    with pytest.raises(MLflowUnreachableError, match="start the server"):
        succeeds.__exit__(None, None, None)


KILLED_WHILE_COMPUTING = """\
import os, signal, sys
sys.path[:0] = {path!r}
from mlflow_provider import task_run
from tries import Try
import numpy as np

signal.signal(signal.SIGTERM, lambda number, frame: print("the handler that was there", flush=True))
matrix = np.random.default_rng(0).random((6000, 6000))
with task_run(context=Try({run_id!r}).context, experiment={experiment!r}):
    with task_run(context=Try({run_id!r}, "evaluate").context, experiment={experiment!r}):
        print("computing", flush=True)
        np.linalg.svd(matrix)  # minutes in one call of a compiled library
"""


@pytest.mark.fault(
    "Airflow ends a task in the middle of compiled code",
    sees="the run KILLED: AirflowTaskTerminated: Airflow ended the task",
    green="with *Clear*",
)
def test_a_task_that_airflow_ends_deep_in_compiled_code_was_killed(a_try, runs, experiment, tmp_path):
    code = KILLED_WHILE_COMPUTING.format(path=sys.path, run_id=a_try.run_id, experiment=experiment)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert any("computing" in line for line in process.stdout)
        process.terminate()
        deadline = time.monotonic() + 60
        while status_of(runs()) != ["KILLED", "KILLED"] and time.monotonic() < deadline:
            time.sleep(0.1)
        still_computing = process.poll() is None
    finally:
        process.kill()
        process.wait()

    assert status_of(runs()) == ["KILLED", "KILLED"]
    assert still_computing


ENDED_INSIDE_AN_EVENT_LOOP = """\
import asyncio, os, signal, sys
sys.path[:0] = {path!r}
from mlflow_provider import task_run
from tries import Try
{imports}


async def train():
    {prepare}
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.1)


signal.signal(signal.SIGTERM, lambda *_: None)  # as Airflow's, which calls on_kill()
with task_run(context=Try({run_id!r}, running={running}).context, experiment={experiment!r}):
    {run}(train())
"""


@pytest.mark.parametrize(
    ("imports", "prepare", "run", "running", "status"),
    [
        ("", "asyncio.get_running_loop().add_signal_handler(15, print)", "asyncio.run", 0, "KILLED"),
        # A signal of somebody else's, which the code handles.
        ("", "asyncio.get_running_loop().add_signal_handler(15, print)", "asyncio.run", 1, "FINISHED"),
        ("", "pass", "asyncio.run", 0, "KILLED"),
        ("import uvloop", "pass", "uvloop.run", 0, "KILLED"),
    ],
)
def test_a_task_that_airflow_ends_while_an_event_loop_handles_signals_was_killed(
    a_try, runs, experiment, imports, prepare, run, running, status
):
    if imports:
        pytest.importorskip("uvloop")
    code = ENDED_INSIDE_AN_EVENT_LOOP.format(
        path=sys.path,
        run_id=a_try.run_id,
        experiment=experiment,
        imports=imports,
        prepare=prepare,
        run=run,
        running=running,
    )
    subprocess.run([sys.executable, "-c", code], timeout=300, check=True)

    assert status_of(runs()) == [status]
