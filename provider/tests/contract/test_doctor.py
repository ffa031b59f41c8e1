"""Each cause that the doctor can name, made to happen and named rightly; nothing on a healthy server."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from airflow.models import Connection

from mlflow_provider.doctor import examination, examine
from mlflow_provider.doctor.checks import FILE
from mlflow_provider.server import findings as causes
from mlflow_provider.server import limits
from mlflow_provider.tracking import runs
from mlflow_servers import Answer, free_port, run_mlflow_server

VERSION = Answer(body="3.17.2")


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """The server of the tests is healthy also where it is slow."""
    monkeypatch.setattr(limits, "INTERACTIVE_TIMEOUT", 120.0)


def failure(**arguments) -> tuple[str, str]:
    """Examine the connection ``mlflow_default``; return the one check that fails, and what it says."""
    [failed] = [result for result in examine(**arguments) if result.status == "failed"]
    return failed.check, failed.sentence


def pattern(cause: str) -> str:
    """Return what matches a cause, whatever stands in place of its placeholders."""
    return ".*".join(re.escape(part) for part in re.split(r"\{[^}]*\}", cause)) + "$"


def names(found: tuple[str, str], check: str, cause: str) -> bool:
    return found[0] == check and bool(re.search(pattern(cause), found[1]))


def test_every_cause_that_the_doctor_can_name_is_made_to_happen_in_this_file():
    sentences = {name: sentence for name, sentence in vars(causes).items() if name.isupper()}
    named = {cause for check in examination.CHECKS for cause in check.causes}
    made = re.findall(r"causes\.([A-Z_0-9]+)", Path(__file__).read_text())

    assert set(sentences.values()) == named
    assert set(made) == set(sentences)


class TestHealthy:
    def test_a_healthy_server_has_nothing_wrong_and_nothing_is_left_there(
        self, hook, mlflow_server, monkeypatch, name
    ):
        # Others examine the server at the same time: know our experiment from theirs.
        uuid = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=name))
        monkeypatch.setattr("mlflow_provider.doctor.checks.uuid", uuid)

        results = list(examine())

        assert [result.sentence for result in results if result.status == "failed"] == []
        assert [result.check for result in results if result.status == "skipped"] == ["open runs"]
        made = {"experiment_name": f"mlflow_doctor {name}"}
        experiment = hook.call("GET", "experiments/get-by-name", made)["experiment"]
        assert experiment["lifecycle_stage"] == "deleted"
        folder = mlflow_server.folder / "artifacts" / experiment["experiment_id"]
        assert list(folder.rglob("*")) == []

    def test_an_experiment_that_is_examined_keeps_its_runs_and_gets_none(
        self, hook, logged_model, mlflow_server
    ):
        assert {result.status for result in examine(experiment="Housing, logged once")} == {"ok", "skipped"}

        left = hook.search_runs([logged_model.experiment_id])
        assert logged_model.run_id in [run["info"]["run_id"] for run in left]
        assert "doctor" not in [run["info"]["run_name"] for run in left]
        folder = mlflow_server.folder / "artifacts" / logged_model.experiment_id
        assert len(list((folder / logged_model.run_id).rglob("folds.json"))) == 1
        assert list(folder.rglob(FILE)) == []

    def test_a_folder_that_worker_and_server_share_is_no_failure(self, hook, name, tmp_path):
        location = {"name": name, "artifact_location": tmp_path.as_uri()}
        hook.call("POST", "experiments/create", location)

        assert {result.status for result in examine(experiment=name)} == {"ok", "skipped"}

    def test_the_command_line_says_the_same_and_exits_with_0(self, mlflow_default, tmp_path):
        command = [sys.executable, "-m", "mlflow_provider.doctor", "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

        report = json.loads(done.stdout)
        assert (report["conn_id"], report["ok"]) == ("mlflow_default", True)
        assert {check["status"] for check in report["checks"]} == {"ok", "skipped"}


class TestTheWayToTheServer:
    @pytest.mark.parametrize(
        ("fields", "cause"),
        [
            pytest.param(None, causes.FIELD, id="no connection"),
            pytest.param({"host": ""}, causes.FIELD, id="no host"),
            pytest.param({"host": "mlflow", "extra": "no JSON"}, causes.FIELD, id="bad extra"),
        ],
    )
    def test_a_connection_that_is_incomplete(self, airflow_connection, fields, cause):
        if fields is not None:
            airflow_connection(**fields)

        # As the command line looks it up: outside of tasks Airflow 3.1 knows no other way.
        found = failure(get_connection=Connection.get_connection_from_secrets)
        assert names(found, "connection", cause)

    def test_a_host_name_that_nobody_knows(self, airflow_connection):
        airflow_connection(host="http://mlflow.invalid:5000")

        assert names(failure(), "host name", causes.UNKNOWN_HOST)

    def test_a_port_of_this_machine_on_which_nothing_listens(self, airflow_connection):
        airflow_connection(host="localhost", port=free_port())

        assert names(failure(), "port", causes.LOOPBACK)

    def test_a_port_of_another_machine_on_which_nothing_listens(self, airflow_connection):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing, but tells our own address there
            except OSError:
                pytest.skip("This machine has no address but loopback.")
            airflow_connection(host=probe.getsockname()[0], port=free_port())

        assert names(failure(), "port", causes.REFUSED)

    def test_an_address_to_which_there_is_no_way(self, airflow_connection):
        airflow_connection(host="http://255.255.255.255:5000")

        assert names(failure(), "port", causes.NO_WAY)

    def test_a_port_that_takes_no_more_connections(self, airflow_connection, monkeypatch):
        monkeypatch.setattr(limits, "INTERACTIVE_TIMEOUT", 0.5)
        with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            for client in (first, second):
                client.setblocking(False)
                client.connect_ex(listener.getsockname())
            airflow_connection(host="127.0.0.1", port=listener.getsockname()[1])

            assert names(failure(), "port", causes.TIMED_OUT)

    def test_a_proxy_on_the_way_that_does_not_answer(self, airflow_connection, monkeypatch):
        airflow_connection(host="http://mlflow.example.com:5000")
        monkeypatch.setenv("http_proxy", f"http://ada:s3cret@127.0.0.1:{free_port()}")

        check, sentence = failure()

        assert names((check, sentence), "port", causes.DEAD_PROXY)
        assert "s3cret" not in sentence


class TestTheServer:
    def test_one_that_never_answers(self, mlflow_proxy, monkeypatch):
        monkeypatch.setattr(limits, "INTERACTIVE_TIMEOUT", 1.0)
        mlflow_proxy.hangs = True

        assert names(failure(), "server", causes.TIMED_OUT)

    @pytest.mark.parametrize(
        ("answer", "cause"),
        [
            (Answer(0), causes.HANGS_UP),
            (Answer(404, "<html>nothing here"), causes.NOT_MLFLOW),
            (Answer(200, "<html>another program"), causes.NOT_MLFLOW),
            (Answer(302, headers={"Location": "https://elsewhere/version"}), causes.REDIRECTED),
            (Answer(302, headers={"Location": "/login"}), causes.REDIRECTED_ELSEWHERE),
            (Answer(body="2.22.0"), causes.OTHER_MAJOR_VERSION),
        ],
    )
    def test_one_that_is_no_mlflow_of_ours(self, false_server, airflow_connection, answer, cause):
        airflow_connection(host=false_server(answer).url)

        assert names(failure(), "server", cause)

    def test_one_that_speaks_http_only(self, false_server, airflow_connection):
        airflow_connection(host=false_server(VERSION).url.replace("http:", "https:"))

        assert names(failure(), "server", causes.SPEAKS_HTTP)

    def test_one_whose_certificate_is_not_trusted(self, false_server, airflow_connection, certificate):
        airflow_connection(host=false_server(VERSION, certificate=certificate).url)

        assert names(failure(), "server", causes.UNTRUSTED)

    def test_one_that_was_not_told_its_name_though_it_says_that_it_is_healthy(
        self, mlflow_server, airflow_connection
    ):
        airflow_connection(host=mlflow_server.unknown_url)
        assert requests.get(f"{mlflow_server.unknown_url}/health", timeout=60).text == "OK"

        assert names(failure(), "API", causes.UNKNOWN_TO_ITSELF)


class TestTheLogin:
    @pytest.fixture
    def mlflow_default(self, mlflow_auth_server, airflow_connection):
        return airflow_connection(**mlflow_auth_server.connection)

    def test_none(self, mlflow_auth_server, airflow_connection):
        airflow_connection(host=mlflow_auth_server.url)

        assert names(failure(), "login", causes.NO_LOGIN)

    def test_a_wrong_one_which_is_not_shown(self, mlflow_auth_server, airflow_connection):
        airflow_connection(host=mlflow_auth_server.url, login="admin", password="a wrong one")

        results = list(examine())

        [failed] = [result for result in results if result.status == "failed"]
        assert names((failed.check, failed.sentence), "login", causes.WRONG_LOGIN)
        assert "a wrong one" not in repr(results)

    def test_one_that_may_only_read(self, hook, mlflow_auth_server, airflow_connection, name):
        hook.call("POST", "experiments/create", {"name": name})
        hook.call("POST", "users/create", {"username": name, "password": "a-password-for-eve"})
        airflow_connection(host=mlflow_auth_server.url, login=name, password="a-password-for-eve")

        assert names(failure(experiment=name), "experiment", causes.READ_ONLY)

    def test_one_whose_password_mlflow_cannot_read_everywhere(
        self, hook, mlflow_auth_server, airflow_connection, name
    ):
        hook.call("POST", "users/create", {"username": name, "password": "пароль-в-тайне"})
        airflow_connection(host=mlflow_auth_server.url, login=name, password="пароль-в-тайне")

        assert names(failure(), "artifact", causes.NOT_ASCII)

    def test_the_right_one_has_nothing_wrong_and_is_not_shown(self, mlflow_default, mlflow_auth_server):
        results = list(examine())

        assert {result.status for result in results} == {"ok", "skipped"}
        assert mlflow_auth_server.password not in repr(results) + "".join(map(str, results))

    def test_one_that_a_server_repeats_is_not_shown(self, false_server, airflow_connection):
        repeated = Answer(400, json.dumps({"error_code": "BAD_REQUEST", "message": "no: a-password-for-eve"}))
        airflow_connection(
            host=false_server(VERSION, repeated).url, login="eve", password="a-password-for-eve"
        )

        assert failure()[1].endswith("BAD_REQUEST: no: ***")


class TestTheExperiment:
    def test_one_that_does_not_exist(self, mlflow_default, name):
        assert names(failure(experiment=name), "experiment", causes.NO_EXPERIMENT)

    def test_one_that_is_deleted(self, hook, name):
        hook.call("POST", "experiments/delete", hook.call("POST", "experiments/create", {"name": name}))

        assert names(failure(experiment=name), "experiment", causes.DELETED_EXPERIMENT)

    def test_one_that_cannot_be_deleted_again(self, mlflow_proxy):
        mlflow_proxy.forbidden.append("experiments/delete")

        assert names(failure(), "cleaning up", causes.NOT_DELETED)


class TestNoCredentials:
    """The second cause of lost artifacts: workers have to write to S3, and cannot."""

    @pytest.fixture(scope="class")
    def server(self, tmp_path_factory):
        """One that passes no artifacts on, as MLflow's server did for long."""
        options = ("--no-serve-artifacts", "--default-artifact-root=s3://mlflow/artifacts")
        with run_mlflow_server(tmp_path_factory.mktemp("no-proxy"), None, *options) as server:
            yield server

    @pytest.fixture
    def in_s3(self, hook, name):
        """An experiment that lies in S3, though the server would pass artifacts on."""
        location = {"name": name, "artifact_location": "s3://mlflow/housing"}
        hook.call("POST", "experiments/create", location)
        return name

    @pytest.fixture
    def artifact_connection(self, mlflow_server, airflow_connection):
        """A function that makes a connection to an artifact store, and lets ``mlflow_default`` name it."""

        def create(endpoint: str) -> None:
            extra = {"endpoint_url": endpoint, "region_name": "us-east-1"}
            airflow_connection("store", conn_type="aws", login="ada", password="s3cret", extra=extra)
            airflow_connection(host=mlflow_server.url, extra={"artifact_conn_id": "store"})

        return create

    @pytest.fixture(autouse=True)
    def no_key_of_this_machine(self, monkeypatch, tmp_path):
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    def test_a_server_that_passes_no_artifacts_on_leaves_workers_without_keys(
        self, server, airflow_connection
    ):
        airflow_connection(host=server.url)

        assert names(failure(), "artifact store", causes.NO_KEYS)

    def test_an_experiment_in_s3_leaves_workers_without_keys_on_any_server(self, in_s3):
        assert names(failure(experiment=in_s3), "artifact store", causes.NO_KEYS)

    def test_an_experiment_whose_artifacts_the_server_does_not_pass_on(
        self, server, airflow_connection, name
    ):
        location = {"name": name, "artifact_location": "mlflow-artifacts:/housing"}
        url = f"{server.url}/api/2.0/mlflow/experiments/create"
        requests.post(url, json=location, timeout=60).raise_for_status()
        airflow_connection(host=server.url)

        assert names(failure(experiment=name), "artifact store", causes.NOT_SERVED)

    def test_a_worker_without_boto3(self, in_s3, monkeypatch):
        monkeypatch.setitem(sys.modules, "boto3", None)

        assert names(failure(experiment=in_s3), "artifact store", causes.NO_BOTO3)

    @pytest.mark.parametrize("endpoint", ["http://127.0.0.1:{port}", "127.0.0.1:{port}"])
    def test_a_store_that_does_not_answer(self, in_s3, artifact_connection, endpoint):
        artifact_connection(endpoint.format(port=free_port()))

        assert names(failure(experiment=in_s3), "artifact store", causes.STORE_UNREACHABLE)

    @pytest.mark.parametrize(
        ("status", "code", "cause"),
        [
            (403, "InvalidAccessKeyId", causes.WRONG_KEYS),
            (403, "SignatureDoesNotMatch", causes.WRONG_KEYS),
            (404, "NoSuchBucket", causes.NO_BUCKET),
            (301, "PermanentRedirect", causes.WRONG_REGION),
            (403, "RequestTimeTooSkewed", causes.CLOCK_SKEW),
            (403, "AccessDenied", causes.STORE_FORBIDS),
        ],
    )
    def test_a_store_that_refuses(self, in_s3, artifact_connection, false_server, status, code, cause):
        """As S3's API reference says it; tests/lifecycle has MinIO say it."""
        store = false_server(Answer(status, f"<Error><Code>{code}</Code></Error>"))
        artifact_connection(store.url)

        found = failure(experiment=in_s3)

        assert names(found, "artifact store", cause)
        assert "s3cret" not in found[1]

    def test_a_server_without_keys_of_the_store_that_workers_reach(
        self, in_s3, artifact_connection, false_server
    ):
        artifact_connection(false_server(Answer(body="<ListBucketResult/>")).url)

        assert names(failure(experiment=in_s3), "artifact", causes.NOT_LISTED)

    def test_a_store_for_which_a_package_is_missing(self, hook, name):
        location = {"name": name, "artifact_location": "gs://mlflow/housing"}
        hook.call("POST", "experiments/create", location)

        assert names(failure(experiment=name), "artifact", causes.NOT_WRITTEN)


class TestTheArtifact:
    def test_a_store_that_the_server_cannot_write_to(self, hook, mlflow_server, name):
        created = hook.call("POST", "experiments/create", {"name": name})
        store = mlflow_server.folder / "artifacts"
        store.mkdir(exist_ok=True)
        (store / created["experiment_id"]).write_text("a file in place of the folder")

        check, sentence = failure(experiment=name)

        assert check in ("artifact store", "artifact")
        assert sentence == causes.SERVER_STORE_FAILS

    def test_one_that_is_changed_on_the_way(self, mlflow_proxy):
        mlflow_proxy.changed.append(FILE)

        assert names(failure(), "artifact", causes.CHANGED)


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="A folder for each process needs Linux.")
class TestOwnDisk:
    """The third cause: an artifact on the disk of a worker, which neither server nor next task sees.

    ``/proc/self/cwd`` is another folder for each process, as a path is on each machine.
    """

    @pytest.fixture
    def on_own_disk(self, hook, name):
        location = {"name": name, "artifact_location": "file:///proc/self/cwd/doctor-artifacts"}
        hook.call("POST", "experiments/create", location)
        return name

    def test_an_artifact_that_the_server_does_not_see(self, on_own_disk, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)

        assert names(failure(experiment=on_own_disk), "artifact", causes.OWN_DISK)
        assert list(tmp_path.rglob(FILE)) == []

    def test_an_artifact_that_the_next_task_does_not_see(self, on_own_disk, monkeypatch, mlflow_server):
        monkeypatch.chdir(mlflow_server.folder)  # this process sees what the server sees, the next does not

        assert names(failure(experiment=on_own_disk), "next task", causes.NOT_HANDED_ON)


class TestNoTrackingUri:
    """The first cause: nobody told the ``mlflow`` package where MLflow is, so it logged to this folder."""

    TRAINING = (
        "import mlflow; mlflow.start_run(); mlflow.log_metric('rmse', 0.5); mlflow.log_text('.', 'a.txt')"
    )

    @pytest.fixture
    def trained(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        subprocess.run([sys.executable, "-c", self.TRAINING], check=True, capture_output=True)

    def test_runs_that_landed_in_the_working_directory(self, mlflow_default, trained, tmp_path):
        found = failure()

        assert names(found, "this disk", causes.LOST_RUNS)
        assert str(tmp_path) in found[1]

    def test_a_store_that_is_the_servers_own_is_no_failure(
        self, hook, logged_model, mlflow_server, monkeypatch
    ):
        monkeypatch.chdir(mlflow_server.folder)
        assert Path("mlflow.db").exists()

        assert {result.status for result in examine()} == {"ok", "skipped"}


class TestOpenRuns:
    @pytest.fixture
    def run_ids(self, hook, name, monkeypatch):
        """Runs that are RUNNING, of mapped task instances, by map index; of an Airflow of their own."""
        monkeypatch.setenv("AIRFLOW__MLFLOW__INSTANCE", name)
        experiment_id = hook.get_or_create_experiment(name)
        tags = {**runs.dag_run_tags("dag", "manual"), "airflow.task_id": "train"}

        def create(map_index: int) -> str:
            run, _ = runs.create(hook, experiment_id, "train", {"airflow.map_index": str(map_index)}, tags)
            return run.run_id

        return [create(map_index) for map_index in range(4)]

    @pytest.fixture
    def task_instance(self):
        """A function that returns a task instance to which Airflow tells these states, by map index.

        tests/mlflow asks a real Airflow.
        """

        def create(*states: str | None) -> SimpleNamespace:
            told = {"manual": {f"train_{map_index}": state for map_index, state in enumerate(states)}}
            return SimpleNamespace(get_task_states=lambda dag_id, run_ids: told)

        return create

    def test_those_whose_tasks_have_ended_or_are_gone_are_named(self, run_ids, task_instance, hook):
        found = failure(task_instance=task_instance("failed", "running", "success"))

        assert names(found, "open runs", causes.OPEN_RUNS)
        assert [run_id in found[1] for run_id in run_ids] == [True, False, True, True]
        assert self.statuses(hook, run_ids) == ["RUNNING"] * 4

    def test_those_whose_tasks_go_on_are_no_failure(self, run_ids, task_instance):
        results = examine(task_instance=task_instance("running", "up_for_retry", "deferred", None))

        assert {result.status for result in results} == {"ok"}

    def test_they_are_ended_where_that_is_asked_for(self, run_ids, task_instance, hook):
        ended = task_instance("failed", "running", "success", "skipped")

        results = list(examine(task_instance=ended, close_open_runs=True))

        assert results[-1].says == "3 closed"
        assert self.statuses(hook, run_ids) == ["KILLED", "RUNNING", "KILLED", "KILLED"]

    @staticmethod
    def statuses(hook, run_ids) -> list[str]:
        found = [hook.get_run(run_id) for run_id in run_ids]
        return [run["info"]["status"] for run in found]


def test_the_command_line_fits_a_terminal_of_80_columns_and_exits_with_1(airflow_connection):
    airflow_connection(host=f"http://localhost:{free_port()}")

    done = subprocess.run(
        [sys.executable, "-m", "mlflow_provider.doctor"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )

    assert done.returncode == 1
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "FAILED  port" in done.stdout
    assert "-> start the server" in done.stdout
