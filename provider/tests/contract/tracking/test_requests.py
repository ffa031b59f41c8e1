"""The requests of a tracked task, counted by a proxy, and its reaction to missing responses."""

from __future__ import annotations

import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from mlflow_provider import close_open_runs, task_run
from mlflow_provider.exceptions import MLflowAPIError, MLflowUnreachableError
from mlflow_provider.server import findings
from mlflow_provider.server.limits import Limits
from mlflow_proxy import NOT_YOURS, Fault, wait_until
from tries import Try, fail, status_of

# Airflow's information about a task instance that was never tried before.
NEW = SimpleNamespace(next_method=None, task_reschedule_count=0)


@pytest.fixture
def mlflow_default(mlflow_proxy) -> str:
    return "mlflow_default"


@pytest.fixture
def a_try(name, hook) -> Try:
    hook.get_or_create_experiment(name)  # as it is from the second DAG run on
    return Try(f"manual__{name}", known=NEW)


@pytest.fixture
def requests_of(mlflow_proxy):
    """A function that returns the requests of a block to MLflow."""

    def record(block) -> list[str]:
        mlflow_proxy.requests.clear()
        block()
        return list(mlflow_proxy.requests)

    return record


@pytest.fixture
def track(experiment):
    """A function that returns a block that does nothing."""

    def track(a_try: Try, **arguments):
        def block():
            with task_run(context=a_try.context, experiment=experiment, **arguments):
                pass

        return block

    return track


OURS = ["GET experiments/get-by-name", "POST runs/create", "POST runs/update"]


class TestNumber:
    """The budget: five, and seven where the run is under a parent run."""

    def test_of_a_task(self, requests_of, track, a_try):
        assert requests_of(track(a_try)) == OURS

    def test_of_tcp_connections_of_a_task(self, mlflow_proxy, requests_of, track, a_try):
        mlflow_proxy.callers.clear()

        assert requests_of(track(a_try)) == OURS
        assert len(set(mlflow_proxy.callers)) == 1

    def test_of_a_task_that_fails(self, requests_of, a_try, experiment):
        assert len(requests_of(lambda: fail(a_try, ValueError("no sales"), experiment=experiment))) == 6

    @pytest.mark.parametrize(("retry", "number"), [("new", 4), ("continue", 5)])
    def test_of_a_retry(self, requests_of, track, a_try, experiment, retry, number):
        fail(a_try, ValueError("no sales"), experiment=experiment)
        a_try.try_number = 2

        assert len(requests_of(track(a_try, retry=retry))) == number

    def test_of_the_first_task_under_a_parent(self, requests_of, track, a_try):
        assert len(requests_of(track(a_try, nested=True))) == 7

    def test_of_a_task_that_starts_with_others_under_a_parent(self, requests_of, track, a_try):
        a_try.running = 2

        assert len(requests_of(track(a_try, nested=True))) == 8  # ten if another task's parent is chosen

    def test_of_a_later_task_under_a_parent(self, requests_of, track, a_try):
        track(a_try, nested=True)()
        later = Try(a_try.run_id, task_id="evaluate", known=NEW)

        assert len(requests_of(track(later, nested=True))) == 7  # one of them reopens the parent

    def test_of_a_task_next_to_others_under_a_parent(self, requests_of, track, a_try, experiment):
        with task_run(context=a_try.context, experiment=experiment, nested=True):
            beside = Try(a_try.run_id, map_index=1, running=2, known=NEW)
            assert len(requests_of(track(beside, nested=True))) == 6  # is the other still running?

    def test_of_a_retry_under_a_parent(self, requests_of, track, a_try, experiment):
        fail(a_try, ValueError("no sales"), experiment=experiment, nested=True)
        a_try.try_number = 2

        assert len(requests_of(track(a_try, nested=True))) == 7

    @pytest.mark.parametrize("children", [1, 30])
    def test_at_the_end_does_not_grow_with_the_children(
        self, requests_of, track, a_try, mlflow_proxy, children
    ):
        for map_index in range(children):
            track(Try(a_try.run_id, map_index=map_index, known=NEW), nested=True)()
        mlflow_proxy.sizes.clear()

        assert len(requests_of(track(a_try, nested=True))) == 7
        assert max(mlflow_proxy.sizes) < 5_000  # bytes of an answer

    def test_does_not_grow_with_what_the_block_logs(self, requests_of, a_try, experiment):
        import mlflow

        def block():
            with task_run(context=a_try.context, experiment=experiment), mlflow.start_run():
                mlflow.log_metrics({"rmse": 0.5, "mae": 0.4})
                mlflow.log_params({"alpha": 1})

        of_the_block = ("POST runs/log-batch", "GET runs/get")  # the latter by older versions of mlflow
        assert [request for request in requests_of(block) if request not in of_the_block] == OURS


class TestParent:
    def test_a_task_does_not_wait_for_tasks_that_are_not_running(self, track, a_try, monkeypatch):
        monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waited {seconds} s"))

        track(a_try, nested=True)()


class TestPatience:
    def test_a_request_that_times_out_is_sent_again_until_the_time_is_over(self, hook, mlflow_proxy):
        mlflow_proxy.hangs = True
        hook = hook.with_limits(Limits(timeout=0.2, retry_timeout=0.3))
        with pytest.raises(MLflowUnreachableError, match=str(findings.TIMED_OUT)):
            hook.call("GET", "experiments/get-by-name")

        assert len(mlflow_proxy.requests) == 2


class TestLostAnswer:
    @pytest.mark.fault(
        "A request to create a run arrives late, after another",
        sees="two runs while the task runs, then one",
        green="by itself",
    )
    def test_a_run_that_is_created_late_is_deleted(self, a_try, mlflow_proxy, runs, experiment):
        mlflow_proxy.faults.append(Fault("runs/create", times=1, arrives=8))
        with task_run(context=a_try.context, experiment=experiment):
            wait_until("two runs", lambda: status_of(runs()) == ["RUNNING", "RUNNING"])

        assert status_of(runs()) == ["FINISHED"]

    @pytest.mark.fault(
        "MLflow denies permission (403)",
        sees="the task's error: MLflow's message",
        green="with *Clear*, when MLflow allows it",
    )
    def test_a_rejected_request_is_not_retried(self, track, a_try, mlflow_proxy):
        mlflow_proxy.faults.append(Fault("runs/create", 403, NOT_YOURS))
        with pytest.raises(MLflowAPIError, match="Not yours"):
            track(a_try)()

        assert mlflow_proxy.requests.count("POST runs/create") == 1


@pytest.mark.parametrize("path", ["experiments/get-by-name", "runs/search", "runs/create", "runs/update"])
@pytest.mark.parametrize("nested", [False, True])
def test_with_warn_no_error_of_mlflow_fails_the_task(a_try, mlflow_proxy, experiment, path, nested, caplog):
    import mlflow

    a_try.known = None
    mlflow_proxy.faults.append(Fault(path, 403, NOT_YOURS))
    done = False
    with task_run(context=a_try.context, experiment=experiment, nested=nested, on_tracking_error="warn"):
        mlflow.log_metric("rmse", 0.5)
        done = True

    assert done
    assert "Not yours" in caplog.text


def test_a_failed_task_keeps_its_error_and_its_run_if_its_description_cannot_be_changed(
    a_try, mlflow_proxy, experiment, runs
):
    mlflow_proxy.faults.append(Fault("runs/get", 403, NOT_YOURS))
    fail(a_try, ValueError("no sales"), experiment=experiment)
    mlflow_proxy.faults.clear()

    [run] = runs()
    assert (run.info.status, run.data.tags["airflow.reason"]) == ("FAILED", "ValueError: no sales")


class TestEndOfDagRun:
    def test_experiments_are_searched_page_by_page(
        self, a_try, experiment, end_of_dag_run, runs, hook, mlflow_proxy, monkeypatch
    ):
        with task_run(context=a_try.context, experiment=experiment):
            for number in range(4):
                hook.get_or_create_experiment(f"{experiment} {number}")
            # Other tests have also created experiments, and the callback has five seconds for all pages.
            third = len(hook.search_experiments(max_results=1000)) // 3
            monkeypatch.setattr("mlflow_provider.hooks.client.PAGE_SIZE", third)
            mlflow_proxy.requests.clear()
            end_of_dag_run()
            assert status_of(runs()) == ["KILLED"]

        assert mlflow_proxy.requests.count("POST experiments/search") > 2

    @pytest.fixture
    def end_of_dag_run(self, a_try):
        """A function that calls the callback, which knows how often tasks had been cleared."""

        def call(clear_number: int = 0) -> None:
            dag_run = SimpleNamespace(clear_number=clear_number, state="failed")
            dag = SimpleNamespace(dag_id="housing")
            close_open_runs({"dag": dag, "run_id": a_try.run_id, "dag_run": dag_run})

        return call

    @pytest.mark.fault(
        "MLflow hangs when a DAG run ends",
        sees="a warning in the callback's log: MLflow runs ... may be left RUNNING",
        green="a later DAG run of the DAG, or `mlflow_doctor`, ends the open runs",
    )
    def test_a_server_that_hangs_is_left_after_five_seconds(
        self, track, a_try, mlflow_proxy, end_of_dag_run, caplog
    ):
        mlflow_proxy.hangs = True
        started = time.monotonic()
        end_of_dag_run()

        assert "did not respond within 5 seconds" in caplog.text or "did not respond in time" in caplog.text
        assert time.monotonic() - started < 10  # not the many minutes of the connection's own retries

    def test_a_late_callback_does_not_touch_what_was_cleared_since(
        self, a_try, experiment, end_of_dag_run, runs
    ):
        a_try.clear_number, a_try.try_number = 1, 2
        with task_run(context=a_try.context, experiment=experiment):
            end_of_dag_run(clear_number=0)
            assert status_of(runs()) == ["RUNNING"]
            end_of_dag_run(clear_number=1)
            assert status_of(runs()) == ["KILLED"]

    def test_a_parent_whose_child_was_never_tried_again_has_failed(
        self, a_try, experiment, end_of_dag_run, parents
    ):
        fail(a_try, ValueError("no sales"), experiment=experiment, nested=True)
        assert status_of(parents()) == ["RUNNING"]
        end_of_dag_run()

        assert status_of(parents()) == ["FAILED"]

    def test_runs_of_the_same_dag_run_in_another_airflow_are_not_changed(
        self, a_try, experiment, end_of_dag_run, runs, monkeypatch
    ):
        with task_run(context=a_try.context, experiment=experiment):
            monkeypatch.setenv("AIRFLOW__MLFLOW__INSTANCE", "production")
            end_of_dag_run()
            assert status_of(runs()) == ["RUNNING"]
            with task_run(context=a_try.context, experiment=experiment):
                pass
            assert status_of(runs()) == ["RUNNING", "FINISHED"]


def test_a_name_that_would_break_a_filter_does_not(a_try, experiment, runs):
    for run_id in ("""it's "one" `run`/1""", """it's "one" `run`/2"""):
        a_try.run_id, a_try.try_number = run_id, 1
        with suppress(ValueError), task_run(context=a_try.context, experiment=experiment, nested=True):
            raise ValueError("no sales")
        a_try.try_number = 2
        with task_run(context=a_try.context, experiment=experiment, nested=True):
            pass

    first, again, second, _ = runs()
    assert again.data.tags["airflow.retry_of"] == first.info.run_id
    assert first.data.tags["mlflow.parentRunId"] != second.data.tags["mlflow.parentRunId"]
