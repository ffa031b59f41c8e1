"""Failures of pods: a task's and MLflow's."""

from __future__ import annotations

import pytest

from dev.cluster import chart
from dev.tests.executors.tracked_dag_run import FIRST_TRIES


@pytest.mark.fault(
    "On Kubernetes: the pod of a task with retries is deleted",
    sees="the run of that try KILLED, with the reason",
    green="by its next try",
)
def test_a_task_whose_pod_is_deleted_is_retried_in_another(deployment, tasks):
    baseline = tasks.steps()
    deployment.delete(chart.NAMESPACE, tasks.worker(0))
    tasks.wait_until_logging((0, 2))
    tasks.finish({(0, 1): "KILLED", (0, 2): "FINISHED", (1, 1): "FINISHED"}, baseline)


@pytest.mark.fault(
    "On Kubernetes: a task with retries exceeds its memory and is killed",
    sees="the run of that try KILLED, with the reason",
    green="by its next try",
)
def test_a_task_killed_for_its_memory_is_retried(run_dag):
    tasks = run_dag("takes_too_much_memory")
    tasks.finish({(0, 1): "KILLED", (0, 2): "FINISHED"})


@pytest.mark.fault(
    "On Kubernetes: one of MLflow's two replicas is killed while artifacts are uploaded",
    sees="uploads that take longer",
    green="by itself",
)
def test_uploads_continue_through_the_other_replica_when_one_is_killed(deployment, run_dag):
    tasks = run_dag("uploads_until_stopped")
    baseline = tasks.wait_until_logging(*FIRST_TRIES)
    replicas = deployment.pods("mlflow", "--selector=app.kubernetes.io/name=mlflow")
    assert len(replicas) == 2
    deployment.delete("mlflow", replicas[0]["metadata"]["name"], "--grace-period=0", "--force")
    tasks.wait_until_logging(*FIRST_TRIES)
    tasks.finish(dict.fromkeys(FIRST_TRIES, "FINISHED"), baseline)

    for (number, _), run in tasks.tries().items():
        folder = f"{run.info.artifact_uri.partition(':/')[2].lstrip('/')}/uploads"
        sizes = {
            item.key.rpartition("/")[2]: item.size
            for item in deployment.bucket.objects.filter(Prefix=f"{folder}/")
        }
        steps = range(len(tasks.steps()[number, 1]))
        assert sizes == {f"{step}.txt": len(f"{step} ") * 1_000_000 for step in steps}
