"""Read logged artifacts from the object store and through MLflow, to compare them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow.artifacts import download_artifacts, list_artifacts

if TYPE_CHECKING:
    import pytest
    from mlflow import MlflowClient


def mlflow_client(port: int, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Return a client of an MLflow in containers, and set the environment that it needs outside."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # See docs/how-to/astro.md: the name of the object store cannot be resolved outside the containers.
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    return MlflowClient()


def in_bucket(bucket: Any, prefix: str = "") -> dict[str, bytes]:
    """Return the content of every object by key, read with boto3."""
    return {found.key: found.get()["Body"].read() for found in bucket.objects.filter(Prefix=prefix)}


def in_mlflow(client: MlflowClient, folder: Path, *names: str) -> dict[str, bytes]:
    """Return the content of every artifact of runs and logged models, by its expected key.

    :param folder: the download folder.
    :param names: names of the experiments; all by default.
    """
    result = [client.get_experiment_by_name(name) for name in names] or client.search_experiments()
    experiments = [experiment.experiment_id for experiment in result]
    locations = [run.info.artifact_uri for run in client.search_runs(experiments)]
    locations += [model.artifact_location for model in client.search_logged_models(experiments)]
    artifacts = {}
    for number, location in enumerate(locations):
        if not list_artifacts(artifact_uri=location):
            continue  # the folder does not exist, and MLflow returns 500 for its download
        root = Path(download_artifacts(artifact_uri=location, dst_path=str(folder / str(number))))
        prefix = urlsplit(location).path.strip("/")
        artifacts |= {
            f"{prefix}/{file.relative_to(root)}": file.read_bytes()
            for file in root.rglob("*")
            if file.is_file()
        }
    return artifacts
