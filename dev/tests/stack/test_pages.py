"""The ways from Airflow's pages to MLflow's: what they say, and as somebody clicks them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import requests
from playwright.sync_api import Page, expect

from dev.tests.helpers.clones import wait_until

if TYPE_CHECKING:
    from dev.tests.helpers.embedded_stack import Stack


# Without it, a fresh browser shows MLflow's pages for GenAI.
MODEL_TRAINING = "workflowType=machine_learning"
BACKGROUNDS = {"dark": "oklch(0.232 0.032 266)", "light": "rgb(255, 255, 255)"}


def read_page(stack: Stack, path: str) -> str:
    token = requests.get(f"{stack.airflow_url}/auth/token", timeout=60).json()["access_token"]
    cookies = {"_token": token}  # as a browser would send it
    return wait_until(  # a busy machine may need more than the five seconds that a page waits for MLflow
        f"{path} shows runs",
        lambda: requests.get(f"{stack.airflow_url}{path}", cookies=cookies, timeout=60).text,
        lambda page: "MLflow cannot be asked" not in page,
    )


def test_a_task_instance_has_the_address_of_its_run(stack, endings):
    run_id = endings["raises"]
    [run] = stack.mlflow_runs("raises", run_id)
    links = stack.ask("GET", f"dags/raises/dagRuns/{run_id}/taskInstances/raises/links")["extra_links"]
    experiment = f"{stack.mlflow_ui_url}/#/experiments/{run['info']['experiment_id']}"
    assert links == {
        "MLflow run": f"{experiment}/runs/{run['info']['run_id']}?{MODEL_TRAINING}",
        "MLflow experiment": f"{experiment}?{MODEL_TRAINING}",
    }


@pytest.mark.parametrize("path", ["/mlflow/", "/mlflow/dags/{dag_id}/runs/{run_id}"])
def test_airflow_has_a_page_with_the_newest_runs_and_one_with_those_of_a_dag_run(stack, path):
    run_id = stack.run("raises")
    [run] = stack.mlflow_runs("raises", run_id)

    info = run["info"]
    page = read_page(stack, path.format(dag_id="raises", run_id=run_id))
    assert f'href="{stack.mlflow_ui_url}/#/?{MODEL_TRAINING}"' in page
    link = f"{stack.mlflow_ui_url}/#/experiments/{info['experiment_id']}/runs/{info['run_id']}"
    assert f'href="{link}?{MODEL_TRAINING}"' in page
    assert "ValueError: no sales in 2011" in page


@pytest.fixture
def run_page(stack: Stack, endings: dict[str, str]) -> str:
    """The address of a finished DAG run in Airflow."""
    return f"{stack.airflow_url}/dags/is_async/runs/{endings['is_async']}"


def assert_shows_the_run(page: Page) -> None:
    expect(page).to_have_url(re.compile(r"/#/experiments/\d+/runs/[0-9a-f]{32}"))
    expect(page.get_by_text("rmse").first).to_be_visible()


def test_a_task_instance_has_a_button_to_its_run(page: Page, run_page: str):
    page.goto(f"{run_page}/tasks/is_async/details")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="MLflow run").click()

    assert_shows_the_run(opened.value)


def test_a_dag_run_has_a_tab_with_its_runs(page: Page, run_page: str):
    page.goto(run_page)
    page.get_by_role("link", name="MLflow", exact=True).last.click()  # the first is in the navigation
    table = page.frame_locator("iframe[title=MLflow]").get_by_role("table")
    expect(table).to_contain_text("FINISHED")
    with page.context.expect_page() as opened:
        table.get_by_role("link", name="is_async").first.click()  # the others are in Airflow

    assert_shows_the_run(opened.value)


def test_the_navigation_leads_to_the_newest_runs_and_to_mlflow(page: Page, stack: Stack):
    stack.run("is_async")
    page.goto(stack.airflow_url)
    page.get_by_label("MLflow").click()
    frame = page.frame_locator("iframe[title=MLflow]")
    expect(frame.get_by_role("table")).to_contain_text("is_async")
    with page.context.expect_page() as opened:
        frame.get_by_role("link", name="Open MLflow").click()

    expect(opened.value).to_have_title("MLflow")
    expect(opened.value).to_have_url(re.compile(rf"^{stack.mlflow_ui_url}/"))
    expect(opened.value.get_by_text("Model registry").first).to_be_visible()  # GenAI has none


def test_the_page_leads_back_to_the_task_instance_and_looks_like_airflow(page: Page, run_page: str):
    page.goto(run_page)
    page.get_by_role("link", name="MLflow", exact=True).last.click()
    frame = page.frame_locator("iframe[title=MLflow]")
    for theme, background in BACKGROUNDS.items():
        page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        expect(frame.locator("body")).to_have_css("background-color", background)
    font = page.evaluate("getComputedStyle(document.body).fontFamily")
    expect(frame.locator("body")).to_have_css("font-family", font)

    frame.get_by_role("link", name="is_async").last.click()

    expect(page).to_have_url(re.compile("/tasks/is_async$"))
