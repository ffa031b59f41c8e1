"""A task logs in to nginx in front of MLflow: with a client certificate, or with a header."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dev import MissingError
from dev.tests.helpers.failed_login import check_that_login_fails
from dev.waiting import wait_until
from http_servers import new_certificate
from login_users import USERS
from mlflow_provider.server import findings
from mlflow_servers import free_port

HEADER = {"CF-Access-Client-Secret": "secret-of-the-gateway"}
# Each certificate is its own authority.
SETTINGS = """\
daemon off;
master_process off;
pid pid;
error_log error.log;
events {{}}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path bodies;
    proxy_temp_path responses;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{ports[certificate]} ssl;
        ssl_certificate {server};
        ssl_certificate_key {server};
        ssl_client_certificate {client};
        ssl_verify_client on;
        location / {{ proxy_pass {mlflow}; }}
    }}
    server {{
        listen 127.0.0.1:{ports[header]};
        if ($http_cf_access_client_secret != "secret-of-the-gateway") {{ return 403; }}
        location / {{ proxy_pass {mlflow}; }}
    }}
}}
"""


@pytest.fixture(scope="module")
def gates(mlflow_server, tmp_path_factory) -> Iterator[dict[str, dict[str, Any]]]:
    """nginx: by what it requires, the fields of a connection that has it."""
    if not (nginx := shutil.which("nginx")):
        raise MissingError("There is no nginx on the PATH; on Debian and Ubuntu: apt-get install nginx")
    folder = tmp_path_factory.mktemp("nginx")
    server, client = (new_certificate(folder / f"{name}.pem") for name in ("server", "client"))
    ports = {"certificate": free_port(), "header": free_port()}
    settings = SETTINGS.format(ports=ports, server=server, client=client, mlflow=mlflow_server.url)
    (folder / "nginx.conf").write_text(settings)
    process = subprocess.Popen([nginx, "-p", folder, "-c", "nginx.conf", "-e", "error.log"])
    try:
        wait_until("nginx listens", (folder / "pid").exists)
        extra = {"client_cert": str(client), "verify": str(server)}
        yield {
            "certificate": {"host": f"https://127.0.0.1:{ports['certificate']}", "extra": extra},
            "header": {"conn_type": "http", "host": f"http://127.0.0.1:{ports['header']}", "extra": HEADER},
        }
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("gate", ["certificate", "header"])
@pytest.mark.parametrize("user", USERS, ids=lambda user: user.__name__)
def test_a_login_works_everywhere(gates, airflow_connection, gate, user: Callable[[str], None]) -> None:
    airflow_connection(**gates[gate])

    user(f"nginx-{time.time_ns()}")


@pytest.mark.parametrize(
    ("gate", "change", "finding", "reason"),
    [
        pytest.param(
            "certificate",
            lambda extra, folder: {"verify": extra["verify"]},
            findings.CLIENT_CERTIFICATE_REJECTED,
            "400 No required SSL certificate was sent",
            id="no-certificate",
        ),
        pytest.param(
            "certificate",
            lambda extra, folder: {**extra, "client_cert": str(new_certificate(folder / "other.pem"))},
            findings.CLIENT_CERTIFICATE_REJECTED,
            "400 The SSL certificate error",
            id="other-certificate",
        ),
        pytest.param(
            "header", lambda extra, folder: {}, findings.ACCESS_DENIED, "403 Forbidden", id="no-header"
        ),
    ],
)
def test_the_task_and_the_doctor_say_what_nginx_refuses(
    gates, airflow_connection, tmp_path, gate, change, finding, reason
):
    fields = gates[gate]
    airflow_connection(**{**fields, "extra": change(fields["extra"], tmp_path)})

    check_that_login_fails(finding, reason)
