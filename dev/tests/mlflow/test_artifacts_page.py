"""Run the code of docs/troubleshooting/artifacts.md: what loses artifacts, and what keeps them."""

from __future__ import annotations

import logging
import re
import shlex
from itertools import pairwise

import pytest

from dev.tests.helpers.documentation import Block, blocks_run_by
from mlflow_servers import run_mlflow_server

BLOCKS = blocks_run_by("dev/tests/mlflow/test_artifacts_page.py")
# Each with what the page says that the task logs.
MISTAKES = [(code, block) for code, block in pairwise(BLOCKS) if block.language == "text"]
WORKS = [block for block in BLOCKS if block.language == "python" and block not in dict(MISTAKES)]
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


@pytest.mark.parametrize(("block", "shown"), MISTAKES, ids=lambda block: block.place)
def test_a_mistake_is_logged_with_its_fix(block, shown, run_block, caplog):
    states = run_block(block)

    assert ("failed" in states) == block.code.startswith("# fails")
    [problem] = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("mlflow_provider") and record.levelno >= logging.WARNING
    ]
    assert re.fullmatch(shown.pattern, problem)


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
