"""Installing: what is checked, what is skipped, and how failures are reported."""

import ast
import importlib.util
import re
import shutil
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from local_stack import install
from local_stack.settings import ROOT, LocalError


@pytest.mark.parametrize("command", ["local_stack", "local_stack.install"])
def test_an_old_python_is_rejected_in_one_line(command):
    """The first file must parse on a Python without newer syntax, and stop there."""
    ast.parse((ROOT / "local_stack" / "__init__.py").read_text(), feature_version=(3, 6))
    script = f"import runpy, sys; sys.version_info = (3, 9, 18); runpy.run_module({command!r})"
    command_line = [sys.executable, "-c", script]
    process = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith("Python 3.10 or newer is required, but this is 3.9")
    assert len(process.stderr.splitlines()) == 1


@pytest.fixture
def without_uv(monkeypatch, tmp_path):
    monkeypatch.setattr(install, "LOCAL", tmp_path)


@pytest.fixture
def without_pip(monkeypatch):
    """A Python without pip."""
    real = install._run

    def run(title, *command, **options):
        if command[:3] == (install.PYTHON, "-m", "pip"):
            raise LocalError(title, f"{install.PYTHON}: No module named pip")
        real(title, *command, **options)

    monkeypatch.setattr(install, "_run", run)


def test_a_python_without_venv_is_rejected_with_what_to_install(monkeypatch, without_uv, without_pip):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "ensurepip" else real(name, *rest)
    )
    with pytest.raises(
        LocalError, match=r"no venv module\. On Debian or Ubuntu: apt install python3\.\d+-venv"
    ):
        install.fetch_uv()


def test_a_python_without_pip_can_fetch_uv(without_uv, without_pip):
    assert subprocess.check_output([install.fetch_uv(), "--version"], text=True).startswith("uv ")


class Refusal(BaseHTTPRequestHandler):
    """A package index that requires a login."""

    def do_GET(self):
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def index(monkeypatch, tmp_path):
    """A function that makes pip and uv use an index, over HTTP or over HTTPS with its own certificate."""
    servers = []

    def serve(*, tls=False):
        server = HTTPServer(("127.0.0.1", 0), Refusal)
        if tls:
            subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
            files = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem"]
            create = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
            subprocess.run([*create, *subject, *files], check=True, capture_output=True)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        use(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}/simple")

    def use(address):
        for name in ("PIP_FIND_LINKS", "PIP_TRUSTED_HOST", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_INDEX"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv("UV_INSECURE_HOST", raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_INDEX_URL", address)
        monkeypatch.setenv("UV_DEFAULT_INDEX", address)
        monkeypatch.setenv("UV_NO_CACHE", "1")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")

    serve.use = use
    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def install_with(request, tmp_path, without_uv, monkeypatch):
    """Install something that the package index should have, with a real pip or a real uv."""
    if request.param == "pip":
        return install.fetch_uv
    monkeypatch.setattr(install, "LOCAL", ROOT / ".local")
    uv, venv = install.fetch_uv(), tmp_path / "venv"
    install._run("a virtual environment", uv, "venv", "-q", venv)
    return lambda: install._install(uv, install.Step("uv", venv, ("iniconfig",)))


both = pytest.mark.parametrize("install_with", ["pip", "uv"], indirect=True)


@both
def test_an_index_that_does_not_respond_is_reported(index, install_with):
    index.use("http://127.0.0.1:9/simple")
    with pytest.raises(LocalError, match="Could not install uv: no package index responds"):
        install_with()


@both
def test_an_index_that_requires_a_login_is_reported(index, install_with):
    index()
    with pytest.raises(LocalError, match="Could not install uv: the package index rejects the login"):
        install_with()


@both
def test_an_untrusted_certificate_of_an_index_is_reported(index, install_with):
    index(tls=True)
    with pytest.raises(LocalError, match=r"Could not install uv: the TLS certificate .* is not trusted"):
        install_with()


@pytest.fixture
def step(tmp_path, monkeypatch):
    """A step that is done, of a project whose inputs may be changed."""
    for name in install.INPUTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(install, "ROOT", tmp_path)
    (tmp_path / "venv").mkdir()
    step = install.Step("something", tmp_path / "venv", ("--group", "dev"))
    step.stamp.write_text(step.version())
    return step


def test_a_step_that_is_done_is_skipped(step, monkeypatch):
    monkeypatch.setattr(install, "fetch_uv", lambda: pytest.fail("not skipped"))
    install.install([step])


@pytest.mark.parametrize("name", install.INPUTS)
def test_a_changed_input_is_installed_again(step, tmp_path, name):
    with (tmp_path / name).open("a") as file:
        file.write("# changed\n")
    assert not step.is_done()


def test_another_python_is_installed_again(step, monkeypatch):
    monkeypatch.setattr(sys, "version", "3.99.0")
    assert not step.is_done()


def test_an_activated_environment_is_not_another_python(tmp_path):
    """Its Python is a link to the one that created it."""
    subprocess.run([install.PYTHON, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    script = "from local_stack import install; print(install.PYTHON, install.RUN[0].version())"
    outputs = {
        subprocess.check_output([python, "-c", script], cwd=ROOT, text=True)
        for python in (install.PYTHON, tmp_path / "venv" / "bin" / "python")
    }
    assert len(outputs) == 1, outputs


def test_an_interrupted_installation_is_not_done(step, monkeypatch):
    def interrupt(title, *command, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "_run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        install._install("uv", step)
    assert step.was_interrupted()
    assert not step.is_done()


def test_an_environment_with_a_broken_package_is_created_again(step):
    """uv can neither use nor remove a package whose list of files is truncated."""
    small = install.Step("something small", step.venv, ("iniconfig",))
    install.install([small])
    [record] = small.venv.glob("lib/python*/site-packages/iniconfig-*.dist-info/RECORD")
    record.write_text(record.read_text()[:-20] + "\nhalf")
    small.stamp.write_text("")
    install.install([small])
    assert small.is_done()
    assert "half" not in record.read_text()


def test_downloads_are_shown_as_they_come_without_the_list_of_packages(step, monkeypatch, capsys):
    """Two packages, one of them of more than a megabyte; neither has been downloaded before."""
    monkeypatch.setenv("UV_CACHE_DIR", str(step.venv.parent / "cache"))
    install.install([install.Step("something large", step.venv, ("pip", "iniconfig"))])
    output = capsys.readouterr().out
    assert output.startswith("Installing something large\n")
    assert re.search(r"^  Downloading pip \([\d.]+MiB\)$", output, re.MULTILINE)
    assert re.search(r"^  Installed 2 packages in ", output, re.MULTILINE)
    assert "iniconfig" not in output


def test_uv_uses_the_mirror_of_pip(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example.com/simple")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    script = "import os, sys; sys.exit(os.environ['UV_DEFAULT_INDEX'] != 'https://mirror.example.com/simple')"
    install._run("nothing", sys.executable, "-c", script)
