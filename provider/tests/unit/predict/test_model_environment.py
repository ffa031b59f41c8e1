"""A worker is told what a model lacks, and a virtualenv with it is built once, whole, by one task."""

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

# A task is a process too, and a copy of one that has imported all this.
PROCESSES = multiprocessing.get_context("fork")


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


class BuildingError(Exception):
    """Raised instead of building a virtualenv."""


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """A function that makes a model's folder, of which these are the requirements."""

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
    def test_are_none_where_all_is_installed(self, make_model, requirements):
        assert unmet_requirements(make_model(requirements)) == []

    @pytest.mark.parametrize(
        ("requirement", "said"),
        [
            ("pandas==1.0.0", f"pandas==1.0.0, installed is {PANDAS}"),
            ("mlflow==3.0.0rc1", f"mlflow==3.0.0rc1, installed is {MLFLOW}"),
            ("nowhere-to-be-found", "nowhere-to-be-found, not installed"),
            ("requests[use-chardet-on-py3,socks]", "PySocks!=1.5.7,>=1.5.6; extra == 'socks', not installed"),
            ("pandas @ https://example.com/pandas.whl", "only pip can check"),
            ("./code/wheel-1.0-py3-none-any.whl", "only pip can check"),
            ("-c constraints.txt", "-c constraints.txt, which only pip can check"),
        ],
    )
    def test_are_named_with_what_is_installed_instead(self, make_model, requirement, said):
        model = make_model(f"mlflow=={MLFLOW}\n{requirement}\n")

        unmet = " and ".join(unmet_requirements(model)).replace('"', "'")

        assert said in unmet

    def test_another_python_is_one_but_another_patch_of_it_is_none(self, make_model):
        this = ".".join(platform.python_version_tuple()[:2])

        assert unmet_requirements(make_model("", python=f"{this}.99")) == []
        assert unmet_requirements(make_model("", python="3.7.1")) == [f"Python 3.7, this is {this}"]

    def test_a_model_that_says_nothing_of_them_may_run_here(self, make_model):
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
    """The only folder of programs, besides the system's."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return programs


@pytest.fixture
def uv(path):
    """Installs faster than pip, so it does where either would."""
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
def test_virtualenv_has_what_the_model_requires_and_not_what_the_worker_has(model, cache, monkeypatch):
    elsewhere = cache.parent / "elsewhere"
    shutil.unpack_archive(model / "greeting-1.0-py3-none-any.whl", elsewhere, "zip")
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))  # must not count as installed
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    python = virtualenv(model, cache, run)

    monkeypatch.delenv("PYTHONPATH")
    assert greets(python)
    assert subprocess.run([python, "-c", "import pandas"], capture_output=True, check=False).returncode
    assert list(python.parent.parent.rglob("greeting.*.pyc")), "compiled"
    assert cache.stat().st_mode & 0o777 == 0o700, "nobody else may put one there"


@pytest.mark.usefixtures("uv")
class TestVirtualenv:
    def test_is_built_once(self, model, cache):
        first = virtualenv(model, cache, run)

        def must_not_run(*_):
            pytest.fail("it was there")

        assert virtualenv(model, cache, must_not_run) == first

    @pytest.mark.parametrize(
        ("requirements", "python", "is_shared"),
        [
            ("# one\n./greeting-1.0-py3-none-any.whl  # two\n", platform.python_version(), True),
            ("./greeting-1.0-py3-none-any.whl\npackaging\n", platform.python_version(), False),
            ("./greeting-1.0-py3-none-any.whl\n", "3.7.1", False),
        ],
    )
    def test_is_shared_by_models_that_require_the_same(
        self, make_model, model, cache, requirements, python, is_shared
    ):
        first = virtualenv(model, cache, run)

        def build(*_):
            raise BuildingError

        other = make_model(requirements, python)
        if is_shared:
            assert virtualenv(other, cache, build) == first
        else:
            with pytest.raises((BuildingError, MLflowProviderError)):  # there may be no such Python here
                virtualenv(other, cache, build)

    def test_that_failed_leaves_nothing(self, model, cache):
        (model / "greeting-1.0-py3-none-any.whl").write_text("broken")

        with pytest.raises(subprocess.CalledProcessError):
            virtualenv(model, cache, run)

        assert folders(cache) == []

    def test_whose_builder_was_killed_is_never_used(self, model, cache):
        def run_half(*arguments):
            run(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        builder = PROCESSES.Process(target=virtualenv, args=(model, cache, run_half))
        builder.start()
        builder.join()
        assert builder.exitcode == -signal.SIGKILL
        assert folders(cache), "half a virtualenv"

        python = virtualenv(model, cache, run)

        assert greets(python)
        assert folders(cache) == [python.parent.parent], "the half is gone"

    def test_whose_python_is_gone_is_built_anew(self, model, cache):
        python = virtualenv(model, cache, run)
        python.unlink()
        python.symlink_to("/usr/bin/python-that-was-uninstalled")

        assert greets(virtualenv(model, cache, run))

    def test_is_built_by_one_of_several_tasks_and_used_by_all(self, model, cache):
        commands, pythons = PROCESSES.SimpleQueue(), PROCESSES.SimpleQueue()

        def run_and_note(command, *arguments):
            commands.put(command)
            run(command, *arguments)

        def task():
            pythons.put(virtualenv(model, cache, run_and_note))
            assert greets(virtualenv(model, cache, run_and_note))

        tasks = [PROCESSES.Process(target=task) for _ in range(8)]
        for process in tasks:
            process.start()
        for process in tasks:
            process.join()

        assert [process.exitcode for process in tasks] == [0] * 8
        assert len({pythons.get() for _ in tasks}) == 1
        assert [commands.get()[1] for _ in range(2)] == ["venv", "pip"]
        assert commands.empty()

    def test_takes_pips_index_for_uv_too(self, model, cache, monkeypatch):
        monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
        monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.example.com/simple")
        seen = {}

        def note(command, folder, environment):
            seen.update(environment)
            run(command, folder, environment)

        virtualenv(model, cache, note)

        assert seen["UV_DEFAULT_INDEX"] == "https://pypi.example.com/simple"
        assert "UV_DEFAULT_INDEX" not in os.environ


class TestWhatCannotBeBuilt:
    def test_a_python_that_pip_cannot_fetch_is_named(self, make_model, cache, monkeypatch):
        monkeypatch.setenv("PATH", "/nowhere")

        with pytest.raises(MLflowProviderError, match=r"Python 3\.7, which this worker lacks.*Put uv on"):
            virtualenv(make_model("", python="3.7.1"), cache, run)

    def test_a_folder_that_cannot_be_written_is_named(self, model, tmp_path):
        file = tmp_path / "file"
        file.touch()

        with pytest.raises(MLflowProviderError, match=f"{file}/cache.*Set venv_cache_path"):
            virtualenv(model, file / "cache", run)


def test_default_cache_is_the_users(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache() == Path.home() / ".cache" / "airflow-provider-mlflow"

    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/worker")
    assert default_cache() == Path("/var/cache/worker/airflow-provider-mlflow")
