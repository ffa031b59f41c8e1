"""What was logged, as the object store holds it and as MLflow gives it: equal, if nothing was lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow.artifacts import download_artifacts, list_artifacts

if TYPE_CHECKING:
    import pytest
    from mlflow import MlflowClient


def mlflow_client(port: int, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Return a client of an MLflow in containers, and set the environment that it needs out here."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # As docs/astro.md says: out here nobody knows the name of the object store.
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    return MlflowClient()


def in_bucket(bucket: Any, prefix: str = "") -> dict[str, bytes]:
    """Return the content of every object by its key, as boto3 reads it."""
    return {found.key: found.get()["Body"].read() for found in bucket.objects.filter(Prefix=prefix)}


def in_mlflow(client: MlflowClient, folder: Path, *names: str) -> dict[str, bytes]:
    """Return the content of every artifact of runs and logged models, by the key it should have.

    :param folder: where to download them to.
    :param names: of the experiments; without, all.
    """
    found = [client.get_experiment_by_name(name) for name in names] or client.search_experiments()
    experiments = [experiment.experiment_id for experiment in found]
    locations = [run.info.artifact_uri for run in client.search_runs(experiments)]
    locations += [model.artifact_location for model in client.search_logged_models(experiments)]
    artifacts = {}
    for number, location in enumerate(locations):
        if not list_artifacts(artifact_uri=location):
            continue  # there is no folder, and for its download MLflow's server answers 500
        root = Path(download_artifacts(artifact_uri=location, dst_path=str(folder / str(number))))
        prefix = urlsplit(location).path.strip("/")
        artifacts |= {
            f"{prefix}/{file.relative_to(root)}": file.read_bytes()
            for file in root.rglob("*")
            if file.is_file()
        }
    return artifacts
