"""Installing: what is checked, what is skipped, and what is said when it cannot be done."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

from local import install
from local.settings import ROOT, LocalError


@pytest.mark.parametrize("command", ["local", "local.install"])
def test_an_old_python_is_told_in_one_line(command):
    """What it reads first must parse on one that knows no newer syntax, and stop there."""
    ast.parse((ROOT / "local" / "__init__.py").read_text(), feature_version=(3, 6))
    script = f"import runpy, sys; sys.version_info = (3, 9, 18); runpy.run_module({command!r})"
    command_line = [sys.executable, "-c", script]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Python 3.10 or newer is needed, this is 3.9")
    assert len(done.stderr.splitlines()) == 1


def test_a_python_without_venv_is_told_what_to_install(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "ensurepip" else real(name, *rest)
    )
    with pytest.raises(
        LocalError, match=r"no venv module; on Debian or Ubuntu: apt install python3\.\d+-venv"
    ):
        install.fetch_uv()


def test_no_package_index_is_told(monkeypatch, tmp_path):
    """With a real uv or pip, and an index where nobody listens."""
    monkeypatch.setattr(install, "LOCAL", tmp_path)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(LocalError, match="Could not install uv: no package index answers"):
        install.fetch_uv()


@pytest.fixture
def step(tmp_path, monkeypatch):
    """A step of a project whose inputs may be changed."""
    for name in install.INPUTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(install, "ROOT", tmp_path)
    (tmp_path / "venv").mkdir()
    return install.Step("something", tmp_path / "venv", ("--group", "dev"))


def test_what_is_installed_is_skipped(step, monkeypatch):
    step.stamp.write_text(step.fingerprint())
    monkeypatch.setattr(install, "find_uv", lambda: pytest.fail("not skipped"))
    install.install([step])


@pytest.mark.parametrize("name", install.INPUTS)
def test_a_changed_input_is_installed_again(step, tmp_path, name):
    step.stamp.write_text(step.fingerprint())
    assert step.is_done()
    with (tmp_path / name).open("a") as file:
        file.write("# changed\n")
    assert not step.is_done()


def test_another_python_is_installed_again(step, monkeypatch):
    step.stamp.write_text(step.fingerprint())
    monkeypatch.setattr(sys, "version", "3.99.0")
    assert not step.is_done()


@pytest.mark.parametrize(("version", "usable"), [("uv 0.7.2", False), ("uv 0.13.8 (x)", True), ("?", False)])
def test_an_old_uv_is_not_used(monkeypatch, tmp_path, version, usable):
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\necho '{version}'\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(install, "LOCAL", tmp_path / "none")
    assert install.find_uv() == (str(uv) if usable else None)


def test_the_mirror_that_pip_knows_is_used_by_uv(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example.com/simple")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    script = "import os, sys; sys.exit(os.environ['UV_DEFAULT_INDEX'] != 'https://mirror.example.com/simple')"
    install._run("nothing", sys.executable, "-c", script)
