"""Run the code of docs/artifacts.md: what loses artifacts, and what keeps them."""

from __future__ import annotations

import shlex

import pytest

from dev.tests.helpers.documentation import Block, blocks_run_by
from mlflow_servers import run_mlflow_server

BLOCKS = blocks_run_by("dev/tests/mlflow/test_artifacts_page.py")
PYTHON = [block for block in BLOCKS if block.language == "python"]
LOSES = [block for block in PYTHON if block.code.startswith("# loses")]
FAILS = [block for block in PYTHON if block.code.startswith("# fails")]
WORKS = [block for block in PYTHON if block not in LOSES + FAILS]
SERVERS = [block for block in BLOCKS if block.language == "bash"]


@pytest.fixture
def run_block(run_source, airflow_connection, mlflow_server, untouched_mlflow, monkeypatch, tmp_path):
    """A function that runs the tasks of a block, in an empty folder, and returns their states."""
    airflow_connection(**mlflow_server.connection)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # a source of keys that takes seconds to time out

    def run(block: Block) -> set[str]:
        [states] = run_source(block.dag_file).values()
        return set(states.values())

    return run


@pytest.mark.parametrize("block", LOSES, ids=lambda block: block.place)
def test_a_run_that_is_lost_is_on_the_workers_disk(block, run_block, tmp_path):
    assert run_block(block) == {"success"}
    assert (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("block", FAILS, ids=lambda block: block.place)
def test_code_that_fails_on_the_page_fails(block, run_block):
    assert "failed" in run_block(block)


@pytest.mark.parametrize("block", WORKS, ids=lambda block: block.place)
def test_the_code_to_use_instead_works_and_leaves_nothing_on_the_workers_disk(block, run_block, tmp_path):
    assert run_block(block) == {"success"}
    assert [file.name for file in tmp_path.iterdir()] == ["dags"]


@pytest.mark.parametrize("block", SERVERS, ids=lambda block: block.place)
def test_artifacts_pass_through_each_server_except_the_one_that_loses_them(block, tmp_path):
    from mlflow import MlflowClient

    command = shlex.split(block.code, comments=True)
    assert command[:2] == ["mlflow", "server"]
    with run_mlflow_server(tmp_path, None, *command[2:]) as server:
        location = MlflowClient(server.url).get_experiment("0").artifact_location
    if block.code.startswith("# loses"):
        assert location == f"{tmp_path}/artifacts/0"
    else:
        assert location == "mlflow-artifacts:/0"
