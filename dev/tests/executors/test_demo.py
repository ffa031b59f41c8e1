"""The lessons, the pipeline and a sweep, with tasks on many machines that share nothing."""

from __future__ import annotations

import secrets

from rich.console import Console

from dev.tests.helpers.artifacts import in_bucket, in_mlflow
from dev.waiting import wait_until
from local_stack import demo

# File systems that are private to a container, or have no files.
OWN = {"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"}
# Everywhere that the AWS SDK looks, except a cloud's metadata.
FIND_KEYS = "import boto3; print('keys:', boto3.Session().get_credentials())"


def test_lessons_and_pipeline_run_green_and_every_artifact_is_in_the_bucket(deployment, mlflow, tmp_path):
    demo.run_lessons(Console(), deployment.airflow, deployment.ports)
    demo.run_pipeline(Console(), deployment.airflow, deployment.ports)
    objects = in_bucket(deployment.bucket)
    assert {"features.csv", "model.skops", "MLmodel"} <= {key.rpartition("/")[2] for key in objects}
    assert objects == in_mlflow(mlflow, tmp_path)


def test_64_mapped_tasks_on_several_workers_make_64_runs_under_one_parent(run_dag):
    sweep = run_dag("sweep")
    sweep.finish({(number, 1): "FINISHED" for number in range(64)})
    assert len({sweep.worker(number) for number in range(64)}) > 1


def test_workers_hold_no_key_of_the_object_store_and_share_no_folder(deployment, tasks):
    places = []
    for worker in deployment.workers():
        output = deployment.run_in(worker, "env", "AWS_EC2_METADATA_DISABLED=true", "python", "-c", FIND_KEYS)
        assert "keys: None" in output
        names = {line.partition("=")[0] for line in deployment.run_in(worker, "env").splitlines()}
        assert [name for name in names if name.startswith(("AWS_", "MINIO_", "MLFLOW_S3_"))] == []
        places += mounted(deployment.run_in(worker, "cat", "/proc/self/mountinfo"))
    assert places
    assert len(places) == len(set(places)), sorted(places)


def test_no_worker_passes_on_a_password_that_a_task_prints(deployment, run_dag):
    password = secrets.token_hex(8)
    connection = {"connection_id": "planted", "conn_type": "http", "password": password}
    assert deployment.airflow.create_or_replace("connections", [connection]) == []
    tasks = run_dag("prints_a_password")
    wait_until("it has printed", tasks.runs, lambda runs: any("printed" in run.data.params for run in runs))
    output = "".join(map(deployment.output, deployment.workers()))
    assert "prints_a_password" in output
    assert password not in output

    tasks.stop()
    assert tasks.wait_for_end() == "success"
    [task] = deployment.airflow.task_instances(tasks.dag_id, tasks.run_id)
    assert "password: ***" in deployment.airflow.log(tasks.dag_id, tasks.run_id, task)


def mounted(mountinfo: str) -> set[tuple[str, str]]:
    """Return a container's mounts: the file system and the folder in it.

    .. seealso:: https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    """
    places = set()
    for line in mountinfo.splitlines():
        mount, _, rest = line.partition(" - ")
        _, _, device, root, *_ = mount.split()
        if rest.split()[0] not in OWN:
            places.add((device, root))
    return places
