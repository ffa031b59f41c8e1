"""A bump: which versions are chosen, and what becomes of the files that name them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dev.tools import bump

OLD, NEW = (f"sha256:{digit * 64}" for digit in "ab")
TAGS = ["v3.17.0-full", "v3.17.9-full", "v3.17.10-full", "v3.17.11", "v3.18.0-full", "latest"]


class RegistryOfOneImage(BaseHTTPRequestHandler):
    """It wants a token, as all public ones do, and tells its tags two at a time."""

    def do_GET(self):
        path, _, query = self.path.partition("?")
        here = f"http://{self.headers['Host']}"
        if path == "/token":
            assert query == "service=registry&scope=repository%3Amlflow%2Fmlflow%3Apull"
            self.answer({"token": "for-anybody"})
        elif self.headers["Authorization"] != "Bearer for-anybody":
            challenge = f'realm="{here}/token",service="registry",scope="repository:mlflow/mlflow:pull"'
            self.answer({}, 401, **{"WWW-Authenticate": f"Bearer {challenge}"})
        elif path == "/v2/mlflow/mlflow/tags/list":
            start = int(query.partition("last=")[2] or 0)
            more = {"Link": f'<{path}?last={start + 2}>; rel="next"'} if start + 2 < len(TAGS) else {}
            self.answer({"tags": TAGS[start : start + 2]}, **more)
        elif path == "/v2/mlflow/mlflow/manifests/v3.17.10-full":
            assert "application/vnd.oci.image.index.v1+json" in self.headers["Accept"]
            self.answer({}, **{"Docker-Content-Digest": NEW})
        else:
            self.answer({}, 404)

    def answer(self, body, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def registry():
    """Where such a registry listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), RegistryOfOneImage)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("tag", "tags", "found"),
    [
        ("3.3-8", ["3.3-9", "3.3-10", "3.3-10-base", "3.4-1", "3.3-7"], "3.3-10"),
        ("17.6", ["17.7", "18.1", "17.6-alpine", "latest"], "17.7"),
        ("v3.17.0-full", TAGS, "v3.17.10-full"),
        ("3.3-8", ["3.3-7"], "3.3-8"),
        ("RELEASE.2025-09-07T16-13-09Z", ["RELEASE.2025-10-01T00-00-00Z"], "RELEASE.2025-09-07T16-13-09Z"),
    ],
)
def test_the_newest_tag_differs_in_its_last_number_only(tag, tags, found):
    assert bump.newest(tag, tags) == found


@pytest.mark.parametrize("line", ["FROM {}\n", "services:\n  mlflow:\n    image: {} # why this one\n"])
def test_an_image_gets_the_newest_tag_and_its_digest(registry, tmp_path, line):
    file = tmp_path / "file"
    file.write_text(line.format(f"{registry}/mlflow/mlflow:v3.17.0-full@{OLD}"))
    changes, silent = bump.bump_images(file)
    assert file.read_text() == line.format(f"{registry}/mlflow/mlflow:v3.17.10-full@{NEW}")
    assert changes == [(f"{registry}/mlflow/mlflow", f"v3.17.0-full@{OLD}", f"v3.17.10-full@{NEW}")]
    assert silent == []


def test_an_image_that_was_not_pinned_by_digest_gets_none(registry, tmp_path):
    file = tmp_path / "Dockerfile"
    file.write_text(f"FROM {registry}/mlflow/mlflow:v3.17.0-full\n")
    bump.bump_images(file)
    assert file.read_text() == f"FROM {registry}/mlflow/mlflow:v3.17.10-full\n"


@pytest.mark.parametrize("image", ["127.0.0.1:9/mlflow/mlflow:v1", "{registry}/no/such-image:v1"])
def test_an_image_that_no_registry_tells_of_stays_and_is_named(registry, tmp_path, image):
    image = image.format(registry=registry)
    file = tmp_path / "Dockerfile"
    file.write_text(f"FROM {image}\n")
    assert bump.bump_images(file) == ([], [image])
    assert file.read_text() == f"FROM {image}\n"


def test_every_image_of_the_project_is_found():
    found = {
        match[2] for name in bump.IMAGE_FILES for match in bump.IMAGE.finditer((bump.ROOT / name).read_text())
    }
    assert found == {"runtime", "mlflow/mlflow", "postgres", "minio/minio", "valkey/valkey", "apache/airflow"}


def test_what_changed_is_told_by_package():
    before = bump.pins(
        "# made by make lock\nboto3==1.40.1\nold==1\nanyio==4.1 ; python_full_version < '3.11'\nanyio==4.2\n"
    )
    after = bump.pins("boto3==1.40.2\nanyio==4.1 ; python_full_version < '3.11'\nanyio==4.3\nnew==2\n")
    assert bump.differences(before, after) == [
        ("anyio", "4.1, 4.2", "4.1, 4.3"),
        ("boto3", "1.40.1", "1.40.2"),
        ("new", "-", "2"),
        ("old", "1", "-"),
    ]
