"""Links between the pages of Airflow and MLflow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import requests
from playwright.sync_api import Page, expect

from dev.waiting import wait_until

if TYPE_CHECKING:
    from dev.tests.helpers.embedded_stack import Stack


# Otherwise a new browser profile shows MLflow's pages for GenAI.
MODEL_TRAINING = "workflowType=machine_learning"
BACKGROUNDS = {"dark": "oklch(0.232 0.032 266)", "light": "rgb(255, 255, 255)"}


def read_page(stack: Stack, path: str) -> str:
    token = requests.get(f"{stack.airflow_url}/auth/token", timeout=60).json()["access_token"]
    cookies = {"_token": token}  # as a browser would send it
    return wait_until(  # on a busy machine, MLflow may not respond within the page's five seconds
        f"{path} shows runs",
        lambda: requests.get(f"{stack.airflow_url}{path}", cookies=cookies, timeout=60),
        lambda response: response.ok,
    ).text


def test_a_task_instance_has_the_address_of_its_run(stack, endings):
    run_id = endings["raises"]
    [run] = stack.mlflow_runs("raises", run_id)
    links = stack.call("GET", f"dags/raises/dagRuns/{run_id}/taskInstances/raises/links")["extra_links"]
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
    assert f'href="{stack.mlflow_ui_url}/#/"' in page
    link = f"{stack.mlflow_ui_url}/#/experiments/{info['experiment_id']}/runs/{info['run_id']}"
    assert f'href="{link}?{MODEL_TRAINING}"' in page
    assert "ValueError: no sales in 2011" in page


def test_the_tab_of_a_dag_run_leads_to_mlflow_and_back_and_looks_like_airflow(
    page: Page, stack: Stack, endings
):
    """The other links of README's walk are in test_walk.py."""
    page.goto(f"{stack.airflow_url}/dags/is_async/runs/{endings['is_async']}")
    page.get_by_role("link", name="MLflow", exact=True).last.click()  # the first is in the navigation
    frame = page.frame_locator("iframe[title=MLflow]")
    for theme, background in BACKGROUNDS.items():
        page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        expect(frame.locator("body")).to_have_css("background-color", background)
    font = page.evaluate("getComputedStyle(document.body).fontFamily")
    expect(frame.locator("body")).to_have_css("font-family", font)

    with page.context.expect_page() as opened:
        frame.get_by_role("link", name="is_async").first.click()  # the others are in Airflow
    expect(opened.value).to_have_url(re.compile(r"/#/experiments/\d+/runs/[0-9a-f]{32}"))
    expect(opened.value.get_by_text("rmse").first).to_be_visible()

    frame.get_by_role("link", name="is_async").last.click()
    expect(page).to_have_url(re.compile(r"/tasks/is_async\?try_number=1$"))


def test_the_tab_of_a_running_dag_run_refreshes_itself(page: Page, stack: Stack, start_logging):
    task = start_logging(stack)
    task.wait_for_run()
    page.goto(f"{stack.airflow_url}/dags/{task.dag_id}/runs/{quote(task.run_id)}/plugin/mlflow-runs")
    frame = page.frame_locator("iframe[title=MLflow]")
    expect(frame.get_by_text("RUNNING")).to_be_visible()
    task.stop()
    expect(frame.get_by_text("FINISHED")).to_be_visible()
