"""What the compose files promise, before anything is started."""

import base64
import json
import re
from urllib.parse import urlsplit

import pytest
import yaml

from dev.docker.project import CELERY, GENERATED, IMAGE, OVERRIDE, WITHOUT_DIGESTS
from local_stack.settings import ROOT

OURS = ("mlflow", "mlflow-db-upgrade", "mlflow-postgres", "minio", "minio-bucket")
AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer")


@pytest.fixture(params=[GENERATED, CELERY], ids=["generated", "celery"])
def services(project, request):
    """The services as a user has them, with either file."""
    return project.config(files=[request.param, OVERRIDE])["services"]


@pytest.fixture
def celery(project):
    return project.config(files=[CELERY, OVERRIDE])["services"]


def mlflow_with(project, **variables):
    return project.config(files=[GENERATED, OVERRIDE], **variables)["services"]["mlflow"]


def test_every_image_is_pinned_and_none_is_built(services):
    images = {service["image"] for service in services.values()}
    for image in images - {IMAGE, "airflow-on-celery"}:  # which are built from the Dockerfile
        assert re.search(r":(v|RELEASE\.)?\d+[.-]\d+[^:]*(@sha256:[0-9a-f]{64})?$", image), image
    assert [name for name, service in services.items() if "build" in service] == []


def test_nothing_is_installed_when_a_container_starts(services):
    for name in OURS:
        assert not re.search(r"\b(pip|apt|apk|curl|wget)\b", str(services[name])), name


def test_every_published_port_is_on_loopback(services):
    hosts = {port["host_ip"] for service in services.values() for port in service.get("ports", [])}
    assert hosts == {"127.0.0.1"}


def test_every_port_of_ours_can_be_another(project):
    variables = {"MLFLOW_PORT": "5001", "MINIO_PORT": "9010", "MINIO_CONSOLE_PORT": "9011"}
    services = project.config(files=[GENERATED, OVERRIDE], **variables)["services"]
    published = {port["published"] for name in OURS for port in services[name].get("ports", [])}
    assert published == set(variables.values())
    [allowed] = re.findall(r"--allowed-hosts=(\S+)", services["mlflow"]["command"][-1])
    assert {"mlflow:5000", "localhost:5001", "127.0.0.1:5001"} <= set(allowed.split(","))
    for name in AIRFLOW:
        ui_urls = json.loads(services[name]["environment"]["AIRFLOW__MLFLOW__UI_URLS"])
        assert ui_urls == {"http://mlflow:5000": "http://localhost:5001"}


@pytest.mark.parametrize(
    ("variables", "is_on"), [({}, False), ({"MLFLOW_AUTH": ""}, False), ({"MLFLOW_AUTH": "1"}, True)]
)
def test_one_variable_switches_the_login_on(project, variables, is_on):
    command = mlflow_with(project, **variables)["command"][-1]
    assert ("--app-name=basic-auth" in command.split()) is is_on


def test_the_password_of_the_login_can_be_another(project):
    environment = mlflow_with(project, MLFLOW_ADMIN_PASSWORD="p", MLFLOW_SECRET_KEY="k")["environment"]
    assert environment["MLFLOW_AUTH_ADMIN_PASSWORD"] == "p"
    assert environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] == "k"


def test_with_celery_containers_share_no_folder(celery):
    volumes = [volume["source"] for service in celery.values() for volume in service.get("volumes", [])]
    assert sorted(volumes) == ["airflow_postgres_data", "minio_data", "mlflow_postgres_data", "valkey_data"]


def test_with_celery_a_worker_gets_only_what_it_needs(celery):
    worker, scheduler = celery["worker"]["environment"], celery["scheduler"]["environment"]
    assert worker["AIRFLOW__MLFLOW__PRELOAD"] == scheduler["AIRFLOW__MLFLOW__PRELOAD"]
    assert {name for name in scheduler.keys() - worker.keys() if re.search("SECRET|KEY|CONN", name)} == {
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__CORE__FERNET_KEY",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    }


def test_with_celery_all_components_have_the_same_instance_name(celery):
    names = {celery[name]["environment"]["AIRFLOW__MLFLOW__INSTANCE"] for name in (*AIRFLOW, "worker")}
    assert len(names) == 1


def test_every_secret_is_a_demo_value(services, celery):
    chosen = services.values() if services == celery else [services[name] for name in OURS]
    secrets = set()
    for service in chosen:
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN", variable):
                secrets.add(value)
            if "://" in value:
                secrets.add(urlsplit(value).password)
        secrets |= {urlsplit(word).password for word in service.get("command") or []}
    assert {"mlflow-demo-secret", "minio-demo-secret"} <= secrets
    assert [secret for secret in secrets - {None} if "-demo-secret" not in secret] == []
    assert b"demo-secret" in base64.b64decode(celery["scheduler"]["environment"]["AIRFLOW__CORE__FERNET_KEY"])


def test_the_connections_have_the_demo_values_of_mlflow(services):
    settings = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text())["airflow"]
    mlflow, minio = settings["connections"]
    environment = services["mlflow"]["environment"]
    assert mlflow["conn_login"] == environment["MLFLOW_AUTH_ADMIN_USERNAME"]
    assert mlflow["conn_password"] == environment["MLFLOW_AUTH_ADMIN_PASSWORD"]
    assert minio["conn_login"] == environment["AWS_ACCESS_KEY_ID"]
    assert minio["conn_password"] == environment["AWS_SECRET_ACCESS_KEY"]
    assert minio["conn_extra"]["endpoint_url"] == environment["MLFLOW_S3_ENDPOINT_URL"]


def test_the_tests_change_only_the_digest_that_pins_minio(project):
    ours = project.config(files=[GENERATED, OVERRIDE, WITHOUT_DIGESTS])
    users = project.config(files=[GENERATED, OVERRIDE])
    for name in ("minio", "minio-bucket"):
        image, digest = users["services"][name].pop("image").split("@")
        assert ours["services"][name].pop("image") == image
        assert digest.startswith("sha256:")
    assert ours == users
