"""What Airflow's page of MLflow runs shows of a run."""

from __future__ import annotations

import re
import runpy

import pytest

from mlflow_provider.exceptions import MLflowAPIError
from mlflow_provider.plugins import pages
from mlflow_provider.server import findings
from mlflow_provider.server.connection import MLflowConnection

MLFLOW = MLflowConnection("mlflow_default", "http://mlflow:5000", ui_url="http://localhost:5000")


def run(
    run_id: str = "abc", *, name: str = "train", start_time: int = 0, metrics: tuple = (), **tags: str
) -> dict:
    tags = {key if "." in key else f"airflow.{key}": value for key, value in {"dag_id": "a", **tags}.items()}
    info = {"experiment_id": "1", "run_id": run_id, "run_name": name, "status": "FAILED"}
    info["start_time"] = start_time
    return {
        "info": info,
        "data": {
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
            "metrics": [{"key": f"m{number}", "value": value} for number, value in enumerate(metrics)],
        },
    }


def page(*found: dict) -> str:
    rows = [pages._row(MLFLOW, {"1": "Housing"}, one) for one in found]
    servers = [{"mlflow": "", "rows": pages._below_their_parents(rows)}]
    return pages._html(200, servers=servers).body.decode()


def test_it_shows_its_first_metrics():
    assert "<td>m0 0.8529, m1 nan, m2 inf, m3 1</td>" in page(run(metrics=(0.85294, "NaN", "Infinity", 1, 2)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(31106.77, "31,107"), (9999.94, "10,000"), (-24500.1, "-24,500"), (2.5e12, "2.5e+12")],
)
def test_a_price_is_written_out(value, shown):
    assert f"<td>m0 {shown}</td>" in page(run(metrics=(value,)))


def test_a_failed_try_shows_its_number_its_reason_and_its_metrics():
    shown = page(run(metrics=(1,), task_id="train", try_number="2", reason="ValueError: no sales"))

    assert "?try_number=2" in shown
    assert "try 2</span>" in shown
    assert "<td>ValueError: no sales<br>m0 1</td>" in shown


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


@pytest.mark.parametrize("tag", ["map_index", "run_id", "task_id"])
def test_a_tag_is_one_segment_of_a_link(tag):
    tags = {"airflow.task_id": "train", "airflow.map_index": "1", f"airflow.{tag}": "a/b?c#d"}

    assert re.search('/a%2Fb%3Fc%23d[/"?]', page(run(**tags)))


@pytest.mark.parametrize(
    ("malformed", "reason"),
    [
        ({}, "&#39;info&#39;"),
        (run() | {"data": {}}, "it has no tag airflow.dag_id"),
        (run() | {"data": {"tags": [{"key": "airflow.dag_run", "value": "a/b/c"}]}}, "it has no tag"),
        (run(metrics=("many",)), "could not convert"),
        *((run(start_time=time), "") for time in (10**15, -(10**14), 10**30, "NaN")),
    ],
)
def test_each_run_that_cannot_be_shown_is_one_line_beside_the_others(malformed, reason):
    shown = page(run(name="ridge"), *[malformed] * 3)

    assert shown.count(f"This run cannot be shown: {reason}") == 3
    assert ">ridge</a>" in shown


@pytest.mark.parametrize(
    ("message", "is_shown"),
    [("[SQL: SELECT secret]", False), (findings.LOGIN_REQUIRED, True)],
)
def test_an_error_is_shown_only_if_its_cause_is_known(message, is_shown):
    error = MLflowAPIError(message, status_code=400, error_code="BAD_REQUEST")

    shown = pages._error_page(None, error).body.decode()

    assert (str(error) in shown, "400 BAD_REQUEST" in shown) == (is_shown, not is_shown)


def test_half_a_character_hides_no_page():
    assert ">train?</a>" in page(run(name="train\ud800"))


def test_children_follow_their_parent_however_the_runs_are_ordered():
    children = [run(name, **{"mlflow.parentRunId": "parent"}) for name in ("child", "child of 2011")]
    grandchild = run("grandchild", **{"mlflow.parentRunId": "child"})
    found = (grandchild, children[0], run("other"), children[1], run("parent"))
    rows = [pages._row(MLFLOW, {}, one) for one in found]

    ordered = [(row["run_id"], row["depth"]) for row in pages._below_their_parents(rows)]

    assert ordered == [("other", 0), ("parent", 0), ("child", 1), ("grandchild", 2), ("child of 2011", 1)]


def test_each_of_many_runs_may_be_the_child_of_the_one_before():
    found = [run(str(number), **{"mlflow.parentRunId": str(number - 1)}) for number in range(500)]

    assert ">499</a>" in page(*reversed([one | {"info": one["info"] | {"run_name": ""}} for one in found]))


def test_airflow_shows_no_page_if_mlflow_is_switched_off(monkeypatch):
    monkeypatch.setenv("AIRFLOW__MLFLOW__ENABLED", "False")

    module = runpy.run_module("mlflow_provider.plugins.mlflow")

    assert module["MLflowPlugin"].external_views == []
