"""What Airflow's page of MLflow runs shows of a run."""

from __future__ import annotations

import pytest

from mlflow_provider.plugins import pages
from mlflow_provider.server.connection import MLflowConnection

MLFLOW = MLflowConnection("mlflow_default", "http://mlflow:5000", ui_url="http://localhost:5000")


def run(run_id: str = "abc", *, name: str = "train", metrics: tuple = (), **tags: str) -> dict:
    tags = {"airflow.dag_id": "housing", **{f"airflow.{key}": value for key, value in tags.items()}}
    info = {"experiment_id": "1", "run_id": run_id, "run_name": name, "status": "FAILED", "start_time": 0}
    return {
        "info": info,
        "data": {
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
            "metrics": [{"key": f"m{number}", "value": value} for number, value in enumerate(metrics)],
        },
    }


def page(*found: dict) -> str:
    rows = [pages._row(MLFLOW, {"1": "Housing"}, one) for one in found]
    return pages.PAGE.render(mlflow="", rows=pages._below_their_parents(rows))


def test_it_shows_its_first_metrics():
    assert "<td>m0 0.8529, m1 nan, m2 inf, m3 1</td>" in page(run(metrics=(0.85294, "NaN", "Infinity", 1, 2)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(31106.77, "31,107"), (9999.94, "10,000"), (-24500.1, "-24,500"), (2.5e12, "2.5e+12")],
)
def test_a_price_is_written_out(value, shown):
    assert f"<td>m0 {shown}</td>" in page(run(metrics=(value,)))


def test_what_comes_from_mlflow_is_no_html():
    shown = page(run(name="<script>", reason="<b>no sales</b>"))

    assert "<script></a>" not in shown
    assert "&lt;b&gt;no sales" in shown


def test_no_tag_becomes_a_link_to_a_script():
    tags = dict.fromkeys(["url", "dag_id", "run_id", "task_id", "map_index"], "javascript:alert(1)")

    assert 'href="javascript:' not in page(run(**tags))


def test_a_run_without_a_name_is_shown_by_its_id():
    nameless = run()
    del nameless["info"]["run_name"]

    assert ">abc</a>" in page(nameless)


@pytest.mark.parametrize(
    "malformed",
    [{}, {"info": {}}, run() | {"data": None}, run(metrics=("many",)), run() | {"info": {"run_id": "abc"}}],
)
def test_a_run_that_cannot_be_shown_is_shown_as_such_beside_the_others(malformed):
    shown = page(run(name="ridge"), malformed)

    assert "This run cannot be shown" in shown
    assert ">ridge</a>" in shown


def test_children_follow_their_parent_however_the_runs_are_ordered():
    parent = run("parent")
    child, other = run("child"), run("other")
    child["data"]["tags"].append({"key": "mlflow.parentRunId", "value": "parent"})
    rows = [pages._row(MLFLOW, {}, one) for one in (child, other, parent)]

    top = pages._below_their_parents(rows)

    assert [row["run_id"] for row in top] == ["other", "parent"]
    assert [row["run_id"] for row in top[1]["children"]] == ["child"]
