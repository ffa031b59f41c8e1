"""A task logs in with OAuth: the MLflow server has ``mlflow-oidc-auth``, and ``oidc-provider`` issues tokens.

https://mlflow-oidc.github.io/mlflow-oidc-auth/
https://github.com/panva/node-oidc-provider
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
import requests

from dev import MissingError
from dev.tests.helpers.failed_login import check_that_login_fails
from dev.waiting import wait_until
from local_stack.settings import LOCAL
from login_users import USERS
from mlflow_provider import task_run
from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.operators.registry import RegisterModelOperator
from mlflow_provider.server import findings
from mlflow_servers import free_port, run_mlflow_server
from tries import Try

OIDC_PROVIDER = "oidc-provider@9.13.3"
SERVER = "mlflow-oidc-auth==9.0.5"  # the last version that starts with Python 3.10 and 3.11
SECRET = "client-secret-5d0e"
AUDIENCE = "https://mlflow.example.com"
# A program that logs a metric each second, and an artifact.
PROGRAM = """\
import sys, time, mlflow
with mlflow.start_run():
    for step in range(int(sys.argv[1])):
        mlflow.log_metric("program", 0.5, step)
        time.sleep(1)
    mlflow.log_text("text", "program.txt")
"""


@dataclass(frozen=True)
class Protected:
    """An MLflow server that accepts tokens of an identity provider.

    :param url: its address.
    :param issuer: the identity provider's address.
    :param log: what the identity provider prints.
    """

    url: str
    issuer: str
    log: Path

    def connection(self, client_id: str, password: str = SECRET, **extra: str) -> dict[str, Any]:
        """Return the fields of an Airflow connection."""
        extra = {"token_url": f"{self.issuer}/token", "audience": AUDIENCE, **extra}
        return {"host": self.url, "login": client_id, "password": password, "extra": extra}

    def issued(self, client_id: str) -> int:
        """Return how many tokens a client has got."""
        return self.log.read_text().splitlines().count(f"issued a token to {client_id}")


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protected]:
    folder = LOCAL / "identity-provider"
    if not (npm := shutil.which("npm")):
        raise MissingError("There is no npm on the PATH; install Node.js")
    subprocess.run([npm, "install", "--no-audit", "--no-fund", "--prefix", folder, OIDC_PROVIDER], check=True)
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("identity-provider") / "log"
    command = ["node", "--input-type=module", "-", str(port), SECRET]
    script = Path(__file__).with_name("identity_provider.mjs")
    with script.open() as stdin, log.open("w") as stdout:
        process = subprocess.Popen(command, cwd=folder, stdin=stdin, stdout=stdout)
    discovery = f"{issuer}/.well-known/openid-configuration"
    settings = {
        "MLFLOW_SERVER_PACKAGE": SERVER,
        "OIDC_DISCOVERY_URL": discovery,
        "OIDC_ISSUER": issuer,
        "OIDC_AUDIENCE": AUDIENCE,
        "OIDC_USERNAME_FIELD": "sub",
        "OIDC_PROVISION_ON_BEARER_AUTH": "true",
        "OIDC_CLIENT_ID": "mlflow",
        "OIDC_CLIENT_SECRET": "unused",
        "SECRET_KEY": "for tests",
    }
    try:
        wait_until("the identity provider responds", lambda: requests.get(discovery, timeout=5).ok)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            with run_mlflow_server(tmp_path_factory.mktemp("mlflow"), None, "--app-name=oidc-auth") as server:
                yield Protected(server.url, issuer, log)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.__name__)
def test_a_login_works_everywhere(
    protected, airflow_connection, user: Callable[[str], None], caplog, capfd
) -> None:
    airflow_connection(**protected.connection("airflow"))

    user(f"oidc-{time.time_ns()}")

    everything = caplog.text + "".join(capfd.readouterr())
    assert SECRET not in everything
    assert "eyJ" not in everything  # the beginning of every token


def test_a_task_and_its_program_need_one_token_while_it_is_valid(protected, airflow_connection):
    airflow_connection(**protected.connection("counted"))

    with task_run(context=Try("counted").context, experiment="counted"):
        mlflow.log_metric("rmse", 0.5)
        subprocess.run([sys.executable, "-c", PROGRAM, "1"], check=True)

    assert protected.issued("counted") == 1


def test_tokens_that_expire_three_times_in_a_task_and_its_program_lose_nothing(protected, airflow_connection):
    airflow_connection(**protected.connection("brief"))
    started = time.monotonic()

    with task_run(context=Try("brief").context, experiment="brief"):
        program = subprocess.Popen([sys.executable, "-c", PROGRAM, "60"])
        for step in range(60):
            mlflow.log_metric("task", 0.5, step)
            time.sleep(1)
        mlflow.log_text("text", "task.txt")
        assert program.wait() == 0

    hook = MLflowClientHook()
    with hook.tracking() as client:
        [run] = client.search_runs([hook.get_or_create_experiment("brief")])
        assert run.info.status == "FINISHED"
        for key in ("task", "program"):
            history = client.get_metric_history(run.info.run_id, key)
            assert sorted(metric.step for metric in history) == list(range(60))
        assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"program.txt", "task.txt"}
    # Each of the two renews a token of 20 seconds after 15 seconds.
    renewals = (time.monotonic() - started) // 15
    assert 6 < protected.issued("brief") <= 2 * (renewals + 1)


def test_a_model_is_registered_where_a_client_has_no_permission_by_default(protected, airflow_connection):
    airflow_connection(**protected.connection("airflow"))
    a_try = Try("register")
    with task_run(context=a_try.context, experiment="register") as run:
        mlflow.log_text("flavors: {}", "model/MLmodel")
    operator = RegisterModelOperator(
        task_id="register", model_uri=f"runs:/{run.info.run_id}/model", name="housing", alias="champion"
    )
    context = a_try.context
    context["ti"].task = operator

    operator.execute(context)

    answer = MLflowClientHook().get_model_version_by_alias("housing", "champion")
    assert answer["model_version"]["run_id"] == run.info.run_id


@pytest.mark.parametrize(
    ("fields", "finding", "reason"),
    [
        (
            {"client_id": "airflow", "password": "an old one"},
            findings.TOKEN_REFUSED,
            "invalid_client: client authentication failed",
        ),
        (
            {"client_id": "airflow", "audience": "mlflow"},
            findings.TOKEN_REFUSED,
            "invalid_target: resource indicator must be an absolute URI",
        ),
        ({"client_id": "airflow", "audience": ""}, findings.TOKEN_REJECTED, "rejects the client airflow"),
        ({"client_id": "stranger"}, findings.TOKEN_REJECTED, "rejects the client stranger"),
    ],
    ids=["secret", "audience", "no-audience", "no-user"],
)
def test_the_task_and_the_doctor_say_why_a_login_fails(
    protected, airflow_connection, fields, finding, reason
):
    airflow_connection(**protected.connection(**fields))

    check_that_login_fails(finding, reason)


def test_a_client_without_permission_is_told_so(protected, airflow_connection):
    airflow_connection(**protected.connection("airflow"))
    MLflowClientHook().get_or_create_experiment("theirs")
    airflow_connection(**protected.connection("counted"))

    with (
        pytest.raises(MLflowProviderError, match="Permission denied; ask MLflow's administrator"),
        task_run(context=Try("theirs").context, experiment="theirs"),
    ):
        pass
