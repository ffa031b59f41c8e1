"""The ways from Airflow's pages to MLflow's, as somebody clicks them."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from local.airflow_api import AirflowApi
from tests.helpers.clones import Clone, wait_until

DAG = """
from airflow.sdk import dag, task


@dag(schedule=None)
def browsed():
    @task.mlflow
    def train():
        import mlflow

        mlflow.log_metric("rmse", 24500)

    train()


browsed()
"""


@pytest.fixture(scope="module")
def run_page(clone: Clone) -> str:
    """The address of a finished DAG run in Airflow."""
    (clone.folder / "dags" / "browsed.py").write_text(DAG)
    clone.make("up", **clone.ports)
    airflow = AirflowApi(clone.airflow_port)
    airflow.log_in()
    run_id = airflow.trigger("browsed")
    wait_until(lambda: airflow.dag_run("browsed", run_id)["state"] == "success", 120)
    return f"http://localhost:{clone.airflow_port}/dags/browsed/runs/{run_id}"


def assert_shows_the_run(page: Page) -> None:
    expect(page).to_have_url(re.compile(r"/#/experiments/\d+/runs/[0-9a-f]{32}"))
    expect(page.get_by_text("rmse").first).to_be_visible()


def test_a_task_instance_has_a_button_to_its_run(page: Page, run_page: str):
    page.goto(f"{run_page}/tasks/train/details")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="MLflow run").click()

    assert_shows_the_run(opened.value)


def test_a_dag_run_has_a_tab_with_its_runs(page: Page, run_page: str):
    page.goto(run_page)
    page.get_by_role("link", name="MLflow", exact=True).last.click()  # the first is in the navigation
    table = page.frame_locator("iframe[title=MLflow]").get_by_role("table")
    expect(table).to_contain_text("FINISHED")
    with page.context.expect_page() as opened:
        table.get_by_role("link", name="train").click()

    assert_shows_the_run(opened.value)


def test_the_navigation_leads_to_the_newest_runs_and_to_mlflow(page: Page, clone: Clone, run_page: str):
    page.goto(f"http://localhost:{clone.airflow_port}")
    page.get_by_label("MLflow").click()
    frame = page.frame_locator("iframe[title=MLflow]")
    expect(frame.get_by_role("table")).to_contain_text("browsed")
    with page.context.expect_page() as opened:
        frame.get_by_role("link", name="Open MLflow").click()

    expect(opened.value).to_have_title("MLflow")
    expect(opened.value).to_have_url(re.compile(rf"^http://localhost:{clone.mlflow_port}/"))
