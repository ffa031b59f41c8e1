"""A worker reports unmet requirements, and a virtualenv that meets them is built once and completely."""

from __future__ import annotations

import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from unittest.mock import Mock

import pytest
from uv import find_uv_bin

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.predict.model_environment import (
    default_cache,
    unmet_requirements,
    virtualenv,
)
from wheels import make_wheel

MLFLOW = version("mlflow-skinny")
PANDAS = version("pandas")
PYTHON_ENV = """\
python: {}
build_dependencies:
- pip
dependencies:
- -r requirements.txt
"""

# Tasks are processes that are forked from one with all these imports.
PROCESSES = multiprocessing.get_context("fork")


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


class BuildingError(Exception):
    """Raised instead of building a virtualenv."""


def build_nothing(*_: object) -> None:
    raise BuildingError


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """A function that creates a model's folder with these requirements."""

    def make(requirements: str, python: str = platform.python_version()) -> Path:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        (folder / "python_env.yaml").write_text(PYTHON_ENV.format(python))
        (folder / "requirements.txt").write_text(requirements)
        return folder

    return make


class TestUnmetRequirements:
    @pytest.mark.parametrize(
        "requirements",
        [
            "",
            f"mlflow=={MLFLOW}",
            f"Pandas=={PANDAS}  # pinned\n\n# only comments here\n",
            "pandas \\\n    >=1,<99",
            f"pandas=={PANDAS}; python_version >= '3.9'\nnowhere==1; sys_platform == 'beos'",
            "packaging",
            "requests[socks]; sys_platform == 'beos'",
        ],
    )
    def test_are_empty_if_everything_is_installed(self, make_model, requirements):
        assert unmet_requirements(make_model(requirements)) == []

    @pytest.mark.parametrize(
        ("requirement", "description"),
        [
            ("pandas==1.0.0", f"pandas==1.0.0, installed {PANDAS}"),
            ("mlflow==3.0.0rc1", f"mlflow==3.0.0rc1, installed {MLFLOW}"),
            ("nowhere-to-be-found", "nowhere-to-be-found, not installed"),
            ("requests[use-chardet-on-py3,socks]", "PySocks!=1.5.7,>=1.5.6; extra == 'socks', not installed"),
            ("pandas @ https://example.com/pandas.whl", "only pip can check"),
            ("./code/wheel-1.0-py3-none-any.whl", "only pip can check"),
            ("-c constraints.txt", "-c constraints.txt, which only pip can check"),
        ],
    )
    def test_name_the_installed_version(self, make_model, requirement, description):
        model = make_model(f"mlflow=={MLFLOW}\n{requirement}\n")

        unmet = " and ".join(unmet_requirements(model)).replace('"', "'")

        assert description in unmet

    def test_include_the_minor_version_of_python_but_not_its_patch(self, make_model):
        this = ".".join(platform.python_version_tuple()[:2])

        assert unmet_requirements(make_model("", python=f"{this}.99")) == []
        assert unmet_requirements(make_model("", python="3.7.1")) == [f"Python 3.7, running {this}"]

    def test_are_empty_for_a_model_without_requirements(self, make_model):
        model = make_model("")
        (model / "python_env.yaml").unlink()
        (model / "requirements.txt").unlink()

        assert unmet_requirements(model) == []


@pytest.fixture
def model(make_model, tmp_path):
    """A model that requires a package of its own."""
    model = make_model("./greeting-1.0-py3-none-any.whl\n")
    make_wheel(model, "greeting", {"greeting.py": "WORDS = 'good day'\n"})
    return model


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The only folder on PATH besides the system's."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return programs


@pytest.fixture
def uv(path):
    """uv, which is faster than pip."""
    (path / "uv").symlink_to(find_uv_bin())


@pytest.fixture
def pip(path):
    if shutil.which("uv"):
        pytest.skip("the system has a uv")


@pytest.fixture(params=["uv", "pip"])
def installer(request):
    request.getfixturevalue(request.param)


def greets(python: Path) -> bool:
    command = [python, "-c", "import greeting; print(greeting.WORDS)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout == "good day\n"


def folders(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


@pytest.mark.usefixtures("installer")
def test_a_virtualenv_has_the_packages_of_the_model_and_not_those_of_the_worker(model, cache, monkeypatch):
    elsewhere = cache.parent / "elsewhere"
    shutil.unpack_archive(model / "greeting-1.0-py3-none-any.whl", elsewhere, "zip")
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))  # must not count as installed
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    python = virtualenv(model, cache, run)

    monkeypatch.delenv("PYTHONPATH")
    assert greets(python)
    assert subprocess.run([python, "-c", "import pandas"], capture_output=True, check=False).returncode
    assert list(python.parent.parent.rglob("greeting.*.pyc")), "compiled"
    assert cache.stat().st_mode & 0o777 == 0o700, "nobody else may write there"


@pytest.mark.usefixtures("uv")
class TestVirtualenv:
    @pytest.mark.parametrize(
        ("requirements", "python", "is_shared"),
        [
            ("./greeting-1.0-py3-none-any.whl\n", platform.python_version(), True),
            ("# one\n./greeting-1.0-py3-none-any.whl  # two\n", platform.python_version(), True),
            ("./greeting-1.0-py3-none-any.whl\npackaging\n", platform.python_version(), False),
            ("./greeting-1.0-py3-none-any.whl\n", "3.7.1", False),
        ],
    )
    def test_is_shared_by_models_with_the_same_requirements(
        self, make_model, model, cache, requirements, python, is_shared
    ):
        first = virtualenv(model, cache, run)

        other = make_model(requirements, python)
        if is_shared:
            assert virtualenv(other, cache, build_nothing) == first
        else:
            with pytest.raises((BuildingError, MLflowProviderError)):  # this Python may not be installed
                virtualenv(other, cache, build_nothing)

    def test_leaves_nothing_if_the_build_fails(self, model, cache):
        (model / "greeting-1.0-py3-none-any.whl").write_text("broken")

        with pytest.raises(subprocess.CalledProcessError):
            virtualenv(model, cache, run)

        assert folders(cache) == []

    def test_is_not_used_if_its_build_was_killed(self, model, cache):
        def run_and_die(*arguments):
            run(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        builder = PROCESSES.Process(target=virtualenv, args=(model, cache, run_and_die))
        builder.start()
        builder.join()
        assert builder.exitcode == -signal.SIGKILL
        assert folders(cache), "an incomplete virtualenv"

        python = virtualenv(model, cache, run)

        assert greets(python)
        assert folders(cache) == [python.parent.parent], "the incomplete one is deleted"

    def test_is_rebuilt_if_its_python_was_uninstalled(self, model, cache):
        python = virtualenv(model, cache, run)
        python.unlink()
        python.symlink_to("/usr/bin/python-that-was-uninstalled")

        assert greets(virtualenv(model, cache, run))

    def test_is_built_by_one_of_several_tasks_and_used_by_all(self, model, cache):
        commands, pythons = PROCESSES.SimpleQueue(), PROCESSES.SimpleQueue()

        def run_and_record(command, *arguments):
            commands.put(command)
            run(command, *arguments)

        def task():
            pythons.put(virtualenv(model, cache, run_and_record))
            assert greets(virtualenv(model, cache, run_and_record))

        tasks = [PROCESSES.Process(target=task) for _ in range(8)]
        for process in tasks:
            process.start()
        for process in tasks:
            process.join()

        assert [process.exitcode for process in tasks] == [0] * 8
        assert len({pythons.get() for _ in tasks}) == 1
        assert [commands.get()[1] for _ in range(2)] == ["venv", "pip"]
        assert commands.empty()

    def test_uses_pips_index_also_with_uv(self, model, cache, monkeypatch):
        monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
        monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.example.com/simple")
        used = {}

        def run_and_record(command, folder, environment):
            used.update(environment)
            run(command, folder, environment)

        virtualenv(model, cache, run_and_record)

        assert used["UV_DEFAULT_INDEX"] == "https://pypi.example.com/simple"
        assert "UV_DEFAULT_INDEX" not in os.environ


class TestErrors:
    def test_a_missing_python_is_named(self, make_model, cache, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")

        with pytest.raises(
            MLflowProviderError, match=r"Python 3\.7, which is not on this worker.*Put python3"
        ):
            virtualenv(make_model("", python="3.7.1"), cache, run)

    def test_a_folder_that_is_not_writable_is_named(self, model, tmp_path):
        file = tmp_path / "file"
        file.touch()

        with pytest.raises(MLflowProviderError, match=f"{file}/cache.*Set venv_cache_path"):
            virtualenv(model, file / "cache", run)


def test_the_default_cache_is_the_users(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache() == Path.home() / ".cache" / "airflow-provider-mlflow"

    monkeypatch.setattr("pwd.getpwuid", Mock(side_effect=KeyError))
    monkeypatch.delenv("HOME")
    with pytest.raises(MLflowProviderError, match="Set venv_cache_path"):
        default_cache()

    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/worker")
    assert default_cache() == Path("/var/cache/worker/airflow-provider-mlflow")
