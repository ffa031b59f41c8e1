"""The tables of the page about Databricks; the DAGs run against a stand-in, changed as the page says."""

from __future__ import annotations

import importlib.util
import re

import pytest

from dev.tests.helpers.documentation import ROOT, read

DAGS = ROOT / "dags"
PAGE = "docs/how-to/databricks.md"
OPERATORS = ROOT / "provider" / "tests" / "contract" / "server" / "test_databricks.py"


def rows(heading: str) -> dict[str, tuple[str, str]]:
    """Return the second and third column of a section's table, by what the first names."""
    section = read(PAGE).text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    matches = re.findall(r"^\| `(\w+)` \| (runs|cannot) \|(.*)\|$", section, re.MULTILINE)
    return {name: (outcome, note.strip()) for name, outcome, note in matches}


def change(note: str) -> str:
    """Return the experiment's name that a note tells to enter, or nothing."""
    found = re.search(r'`EXPERIMENT_NAME = "(.+)"`', note)
    return found[1] if found else ""


@pytest.fixture
def run_changed_dag(databricks, airflow_connection, run_dags, monkeypatch, tmp_path):
    """A function that runs a DAG against the stand-in, with another name for its experiment."""
    airflow_connection(**databricks.connection)

    def run(dag_id: str, note: str, **params) -> dict[str, str]:
        source = DAGS / f"{dag_id}.py"
        if not source.exists():
            pytest.skip(f"{source.name} was deleted")
        code = source.read_text().replace('"retries": 2', '"retries": 0')
        if name := change(note):
            monkeypatch.setattr("include.assets.EXPERIMENT_NAME", name)
            code = re.sub(r"^EXPERIMENT_NAME = .*", f"EXPERIMENT_NAME = {name!r}", code, flags=re.MULTILINE)
        (tmp_path / source.name).write_text(code)
        return run_dags(tmp_path / source.name, **params)[dag_id]

    return run


@pytest.mark.parametrize(
    "dag_id", [name for name, (outcome, _) in rows("The DAGs").items() if outcome == "runs"]
)
def test_a_dag_of_the_page_runs_with_the_named_change(run_changed_dag, dag_id):
    table = rows("The DAGs")
    params = {}
    if dag_id == "pipeline_2_train":
        run_changed_dag("pipeline_1_features", table["pipeline_1_features"][1])
        params = {"regressors": ["ridge"], "alphas": [1.0]}

    assert set(run_changed_dag(dag_id, table[dag_id][1], **params).values()) == {"success"}


def test_the_operator_lesson_runs_up_to_the_alias(run_changed_dag):
    states = run_changed_dag("mlflow_operator_dag", rows("The DAGs")["mlflow_operator_dag"][1])

    failed = {task for task, state in states.items() if state != "success"}
    assert failed == {"set_alias", "get_challenger", "predict"}


def test_every_dag_is_in_the_table():
    assert rows("The DAGs").keys() >= {file.stem for file in DAGS.glob("*.py")}


def test_the_operators_in_the_table_are_the_tested_ones():
    specification = importlib.util.spec_from_file_location("test_operators_on_databricks", OPERATORS)
    tested = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tested)
    run = {operator.__name__ for operator, _ in tested.operators_that_run("", "")}
    cannot_run = {operator.__name__ for operator, _ in tested.operators_that_cannot_run("", "")} - run

    outcomes = dict.fromkeys(run, "runs") | dict.fromkeys(cannot_run, "cannot")
    assert {name: outcome for name, (outcome, _) in rows("The operators").items()} == outcomes
