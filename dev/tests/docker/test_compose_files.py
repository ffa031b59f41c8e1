"""What the compose files say, before anything is started."""

import base64
import json
import re
import urllib.parse

import pytest
import yaml

from dev.tests.docker.project import CELERY, GENERATED, IMAGE, OVERRIDE, WITHOUT_DIGESTS
from local_stack.settings import ROOT

OURS = {"mlflow", "mlflow-db-upgrade", "mlflow-postgres", "minio", "minio-bucket"}
DEMO_SECRETS = {"mlflow-demo-secret", "minio-demo-secret"}


@pytest.fixture(scope="module")
def services(project):
    """The services of the generated file and the override, as a user has them."""
    return project.config(files=[GENERATED, OVERRIDE])["services"]


@pytest.fixture(scope="module", params=[GENERATED, CELERY], ids=["generated", "celery"])
def whole(project, request):
    """The services as a user has them, with either file."""
    return project.config(files=[request.param, OVERRIDE])["services"]


def published(services):
    return {
        name: {port["published"] for port in service["ports"]}
        for name, service in services.items()
        if "ports" in service
    }


def test_the_override_adds_these_services_and_no_other(services):
    generated = yaml.safe_load(GENERATED.read_text())["services"]
    assert services.keys() - generated.keys() == OURS


def test_every_image_is_pinned_and_none_is_built(whole):
    images = {service["image"] for service in whole.values()}
    for image in images - {IMAGE, "airflow-on-celery"}:  # which are built from the Dockerfile
        assert re.search(r":(v|RELEASE\.)?\d+[.-]\d+[^:]*(@sha256:[0-9a-f]{64})?$", image), image
    assert [name for name, service in whole.items() if "build" in service] == []


def test_minio_is_pinned_by_digest_too(services):
    assert services["minio"]["image"] == services["minio-bucket"]["image"]
    assert re.search("@sha256:[0-9a-f]{64}$", services["minio"]["image"])


def test_nothing_is_installed_when_a_container_starts(services):
    for name in OURS:
        assert not re.search(r"\b(pip|apt|apk|curl|wget)\b", str(services[name])), name


def test_every_published_port_is_on_loopback(whole):
    hosts = {port["host_ip"] for service in whole.values() for port in service.get("ports", [])}
    assert hosts == {"127.0.0.1"}


def test_these_ports_are_published(services):
    assert published(services) == {
        "api-server": {"8080"},
        "postgres": {"5432"},
        "mlflow": {"5000"},
        "minio": {"9000", "9001"},
    }


def test_every_port_of_ours_can_be_another(project):
    variables = {"MLFLOW_PORT": "5001", "MINIO_PORT": "9010", "MINIO_CONSOLE_PORT": "9011"}
    services = project.config(files=[GENERATED, OVERRIDE], **variables)["services"]
    assert published(services) | {"api-server": ..., "postgres": ...} == {
        "api-server": ...,
        "postgres": ...,
        "mlflow": {"5001"},
        "minio": {"9010", "9011"},
    }
    [allowed] = re.findall(r"--allowed-hosts=(\S+)", services["mlflow"]["command"][-1])
    assert {"mlflow:5000", "localhost:5001", "127.0.0.1:5001"} <= set(allowed.split(","))
    for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
        ui_urls = json.loads(services[name]["environment"]["AIRFLOW__MLFLOW__UI_URLS"])
        assert ui_urls == {"http://mlflow:5000": "http://localhost:5001"}


@pytest.mark.parametrize(
    ("variables", "is_on"), [({}, False), ({"MLFLOW_AUTH": ""}, False), ({"MLFLOW_AUTH": "1"}, True)]
)
def test_one_variable_switches_the_login_on(project, variables, is_on):
    mlflow = project.config(files=[GENERATED, OVERRIDE], **variables)["services"]["mlflow"]
    assert ("--app-name=basic-auth" in mlflow["command"][-1].split()) is is_on


def test_the_password_of_the_login_can_be_another(project):
    chosen = {"MLFLOW_ADMIN_PASSWORD": "another-secret", "MLFLOW_SECRET_KEY": "another-key"}
    environment = project.config(files=[GENERATED, OVERRIDE], **chosen)["services"]["mlflow"]["environment"]
    assert environment["MLFLOW_AUTH_ADMIN_PASSWORD"] == "another-secret"
    assert environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] == "another-key"


def test_with_celery_nobody_mounts_a_folder_that_another_mounts(project):
    services = project.config(files=[CELERY, OVERRIDE])["services"]
    volumes = [volume["source"] for service in services.values() for volume in service.get("volumes", [])]
    assert sorted(volumes) == ["airflow_postgres_data", "minio_data", "mlflow_postgres_data", "valkey_data"]


def test_with_celery_a_worker_is_given_no_more_than_it_needs(project):
    services = project.config(files=[CELERY, OVERRIDE])["services"]
    worker, scheduler = services["worker"]["environment"], services["scheduler"]["environment"]
    assert worker["AIRFLOW__MLFLOW__PRELOAD"] == scheduler["AIRFLOW__MLFLOW__PRELOAD"]
    assert {name for name in scheduler.keys() - worker.keys() if re.search("SECRET|KEY|CONN", name)} == {
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__CORE__FERNET_KEY",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    }


def secrets_in(services):
    """What is secret in the variables and commands of the services."""
    secrets = set()
    for service in services:
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN", variable):
                secrets.add(value)
            if "://" in value:
                secrets.add(urllib.parse.urlsplit(value).password)
        secrets |= {urllib.parse.urlsplit(word).password for word in service.get("command") or []}
    return secrets - {None}


def test_every_secret_is_a_demo_value(services):
    assert secrets_in(services[name] for name in OURS) == DEMO_SECRETS
    assert "demo values" in OVERRIDE.read_text()


def test_with_celery_every_secret_is_a_demo_value(project):
    services = project.config(files=[CELERY, OVERRIDE])["services"]
    secrets = secrets_in(services.values()) - DEMO_SECRETS
    assert "airflow-demo-secret" in secrets
    assert [secret for secret in secrets if not secret.startswith("airflow-demo-secret")] == []
    assert b"demo-secret" in base64.b64decode(
        services["scheduler"]["environment"]["AIRFLOW__CORE__FERNET_KEY"]
    )
    assert "demo values" in CELERY.read_text()


def test_the_connections_hold_demo_values_that_mlflow_has_too(services):
    settings = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text())["airflow"]
    mlflow, minio = settings["connections"]
    environment = services["mlflow"]["environment"]
    assert (mlflow["conn_login"], mlflow["conn_password"]) == (
        environment["MLFLOW_AUTH_ADMIN_USERNAME"],
        environment["MLFLOW_AUTH_ADMIN_PASSWORD"],
    )
    assert (minio["conn_login"], minio["conn_password"]) == (
        environment["AWS_ACCESS_KEY_ID"],
        environment["AWS_SECRET_ACCESS_KEY"],
    )
    assert minio["conn_extra"]["endpoint_url"] == environment["MLFLOW_S3_ENDPOINT_URL"]


def test_the_tests_change_nothing_but_the_digest(project):
    ours = project.config(files=[GENERATED, OVERRIDE, WITHOUT_DIGESTS])
    users = project.config(files=[GENERATED, OVERRIDE])
    for name in ("minio", "minio-bucket"):
        image = users["services"][name].pop("image")
        assert ours["services"][name].pop("image") == image.partition("@")[0]
    assert ours == users
