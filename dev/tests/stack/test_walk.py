"""The walk in a real browser: every button it names exists, and leads to what it describes.

README has its first three steps, the tutorial the others. Each is a function here. With ``SHOTS=<folder>``,
the pictures are written there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect

from dev.tests.helpers.clones import ROOT
from dev.tests.helpers.pictures import PIXELS, SHOTS, WINDOW, picture_file, take_picture, write_animation
from dev.waiting import wait_until

if TYPE_CHECKING:
    from PIL.Image import Image

    from dev.tests.helpers.embedded_stack import Stack

DAG_RUN_SECONDS = 1200
Where = Page | FrameLocator | Locator


@dataclass(frozen=True)
class Step:
    """A numbered step, with the names on the screen (in italics) and its pictures."""

    title: str
    names: set[str]
    pictures: list[str]


def read_steps() -> list[Step]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- end of the steps -->")[0]
    tutorial = (ROOT / "docs" / "tutorial" / "index.md").read_text(encoding="utf-8").partition("## Next")[0]
    _, *parts = re.split(r"^##+ (\d+)\. (.+)$", readme + tutorial, flags=re.MULTILINE)
    numbers, titles, texts = parts[::3], parts[1::3], parts[2::3]
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    steps = zip(titles, texts, strict=True)
    return [Step(title, set(_names(text)), _pictures(text)) for title, text in steps]


def _names(text: str) -> Iterator[str]:
    for path in re.findall(r"(?<![*\w])\*([^*]+)\*(?![*\w])", text):
        yield from " ".join(path.split()).split(" > ")


def _pictures(text: str) -> list[str]:
    return re.findall(r"!\[[^]]+\]\((?:docs|\.\.)/pictures/([\w-]+)\.png\)", text)


@dataclass
class Walk:
    """A person with a browser, looking at its last tab."""

    airflow: str
    tabs: list[Page]
    names: set[str] = field(default_factory=set)
    pictures: list[str] = field(default_factory=list)
    frames: list[Image] = field(default_factory=list)

    @property
    def page(self) -> Page:
        return self.tabs[-1]

    def name(self, name: str) -> str:
        """Record a name that the caller is about to find on the screen."""
        self.names.add(name)
        return name

    def press(self, role: Any, name: str, within: Where | None = None) -> None:
        (within or self.page).get_by_role(role, name=self.name(name), exact=True).first.click()

    def follow(self, role: Any, name: str, within: Where | None = None) -> None:
        """Press a link that opens another tab, and switch to it."""
        with self.page.context.expect_page() as opened:
            self.press(role, name, within)
        self.tabs.append(opened.value)

    def back(self) -> None:
        """Close the tab, and switch to the previous one."""
        self.tabs.pop().close()

    def see(self, *names: str, within: Where | None = None) -> None:
        for name in names:
            expect((within or self.page).get_by_text(self.name(name), exact=True).first).to_be_visible()

    def show(self, name: str, height: int | None = None) -> None:
        """Take a picture for the page, in a window of this height."""
        self.pictures.append(name)
        if SHOTS:
            self.frames.append(take_picture(self.page, picture_file(name), height))

    @contextmanager
    def trigger(self, dag_id: str) -> Iterator[Locator]:
        """Open the dialog that triggers a DAG, let the block fill it in, and open the DAG run."""
        self.page.wait_for_url(re.compile(f"/dags/{dag_id}"))
        button = self.page.get_by_role("button", name="Trigger Dag")
        expect(button).to_have_count(1)  # not the list of DAGs, which has one per DAG
        button.click()
        dialog = self.page.get_by_role("dialog").filter(has_text=f"Trigger Dag - {dag_id}")
        yield dialog
        self.press("button", "Trigger", dialog)
        self.page.wait_for_url(re.compile(f"/dags/{dag_id}/runs/manual__"))


def start(walk: Walk) -> None:
    walk.page.goto(walk.airflow)
    walk.press("link", "Dags")
    for way in "hook", "operator", "package", "task", "tutorial":
        walk.see(f"mlflow_{way}_dag")
    walk.see("mlflow_doctor")


def run_the_three_ways(walk: Walk) -> None:
    walk.press("link", "mlflow_tutorial_dag")
    walk.press("button", "Dag Docs")
    walk.see("Try it:", "Exercise:")
    walk.press("button", "Close")
    walk.see("Code")
    with walk.trigger("mlflow_tutorial_dag"):
        pass
    wait_for_success(walk)
    walk.show("dag-run", height=680)


def see_what_it_logged(walk: Walk) -> None:
    open_mlflow_tab(walk)
    walk.follow("link", "Scaler", mlflow_frame(walk))
    expect(walk.page.get_by_text(walk.name("MLflow Assistant")).first).to_be_visible()
    walk.press("button", "Close")
    expect(walk.page.get_by_placeholder("Ask a question...")).to_be_hidden()
    walk.see("Scaler", "Housing", "mean_living_area", "Tags")
    expect(walk.page.get_by_role("link", name="scaler", exact=True).first).to_be_visible()  # loaded last
    walk.show("mlflow-run")
    walk.press("tab", "Artifacts")
    walk.see("features.csv", "scaled_features.csv", "GenAI", "Model training")

    walk.press("link", "Model registry")
    walk.press("button", "Close", walk.page.get_by_role("dialog"))
    walk.press("link", "Housing", walk.page.get_by_role("table"))
    walk.see("model_type", "regression", "data", "housing")
    walk.show("model", height=680)
    walk.back()
    walk.follow("link", "Open MLflow", mlflow_frame(walk))
    walk.see("GenAI")
    walk.press("button", "Model training")
    walk.back()


def look_at_the_connection(walk: Walk) -> None:
    walk.press("button", "Admin")
    walk.press("menuitem", "Connections")
    row = walk.page.get_by_role("row").filter(has_text=walk.name("mlflow_default"))
    walk.press("button", "Edit Connection", row)
    form = walk.page.get_by_role("dialog")
    walk.see("Host", "Port", "Login", "Password", within=form)
    walk.show("connection", height=920)
    walk.press("button", "Close", form)
    walk.press("button", "Test Connection", row)
    walk.see("Test Connection Successful")
    expect(walk.page.get_by_text("Test Connection Successful")).to_be_hidden()  # not in the next picture


def let_a_try_fail(walk: Walk) -> None:
    open_dag(walk, "mlflow_task_dag")
    with walk.trigger("mlflow_task_dag") as dialog:
        dialog.get_by_text(walk.name("Let the first try fail")).first.click()
        expect(dialog.get_by_role("checkbox", name="Let the first try fail")).to_be_checked()
        walk.show("trigger")
    wait_for_success(walk)
    rows = walk.page.get_by_role("table").get_by_role("row")
    expect(rows.filter(has_text="train")).to_have_text(re.compile("Success.*2@task.mlflow"))
    expect(rows.filter(has_text="evaluate")).to_have_text(re.compile("Success.*1@task.mlflow"))
    open_mlflow_tab(walk)
    table = mlflow_frame(walk).get_by_role("table")
    expect(table.get_by_role("row")).to_have_count(1 + 3)
    walk.see("FINISHED", "FAILED", "RuntimeError: The first try was told to fail.", within=table)
    walk.show("tries", height=640)


def open_its_mlflow_run(walk: Walk) -> None:
    mlflow_frame(walk).get_by_role("link", name=walk.name("evaluate"), exact=True).last.click()
    walk.press("link", "Details")
    walk.see("Extra Links")
    walk.follow("link", "MLflow run")
    walk.see("Metrics (3)", "test_rmse", "Datasets")
    walk.press("tab", "Artifacts")
    walk.page.get_by_text(walk.name("predicted_against_actual.png")).click()
    expect(walk.page.get_by_role("img", name="predicted_against_actual.png")).to_be_visible()
    walk.show("figure")
    walk.press("tab", "Overview")
    walk.follow("link", "Task instance in Airflow")
    expect(walk.page).to_have_url(re.compile(f"^{walk.airflow}/dags/mlflow_task_dag/.*/tasks/evaluate"))
    walk.back()
    walk.back()


def open_dag(walk: Walk, dag_id: str) -> None:
    """Open a DAG from the list of all DAGs; on the page *Home*, its name leads to its last tasks."""
    walk.press("link", "Dags")
    walk.page.locator(f"a[href='/dags/{walk.name(dag_id)}']").first.click()


def wait_for_success(walk: Walk) -> None:
    """Wait for the end of the DAG run on the screen; the page updates itself."""
    state = walk.page.get_by_text(
        re.compile("^(Queued|Running|Success|Failed)$")
    ).first  # those of its tasks come later
    expect(state).to_have_text(re.compile("Success|Failed"), timeout=DAG_RUN_SECONDS * 1000)
    expect(state).to_have_text(walk.name("Success"))


def open_mlflow_tab(walk: Walk) -> None:
    walk.page.get_by_role("link", name=walk.name("MLflow"), exact=True).nth(1).click()  # 0: navigation


def mlflow_frame(walk: Walk) -> FrameLocator:
    """The provider's page inside Airflow's."""
    return walk.page.frame_locator("iframe[title=MLflow]")


def run_the_pipeline(walk: Walk) -> None:
    open_dag(walk, "pipeline_1_features")
    triggered = datetime.now(timezone.utc).isoformat()
    with walk.trigger("pipeline_1_features") as dialog:
        dialog.get_by_label(walk.name("Share of the training sales")).fill("0.1")
    wait_for_success(walk)

    open_dag(walk, "pipeline_3_promote")
    walk.press("link", "Runs")
    newest = walk.page.get_by_role("table").get_by_role("link").first

    def read_start() -> str:
        walk.page.reload()
        return newest.inner_text().removeprefix("asset_triggered__")

    wait_until("pipeline_3_promote has started", read_start, lambda time: time > triggered, DAG_RUN_SECONDS)
    newest.click()
    walk.page.wait_for_url(re.compile("/runs/asset_triggered__"))
    wait_for_success(walk)
    walk.press("link", "promote", walk.page.get_by_role("table"))
    expect(walk.page.get_by_text(re.compile("is not better than")).first).to_be_visible()


def see_the_champion(walk: Walk) -> None:
    walk.press("link", "MLflow")
    walk.follow("link", "Open MLflow", mlflow_frame(walk))
    walk.press("link", "Model registry")
    walk.see("Housing pipeline")
    # MLflow shows an alias with an ``@``.
    expect(walk.page.get_by_role("status", name=walk.name("champion"), exact=True).first).to_be_visible()
    walk.show("registry", height=440)
    walk.back()


STEPS: tuple[Callable[[Walk], None], ...] = (
    start,
    run_the_three_ways,
    see_what_it_logged,
    look_at_the_connection,
    let_a_try_fail,
    open_its_mlflow_run,
    run_the_pipeline,
    see_the_champion,
)


@pytest.fixture
def walk(browser: Browser, stack: Stack) -> Iterator[Walk]:
    with browser.new_context(viewport=WINDOW, device_scale_factor=PIXELS, locale="en-US") as context:
        context.set_default_timeout(300_000)
        expect.set_options(timeout=300_000)
        yield Walk(stack.airflow_url, [context.new_page()])


def test_each_step_has_a_function_here():
    assert [re.sub(r"\W+", "_", step.title.lower()) for step in read_steps()] == [
        step.__name__ for step in STEPS
    ]


def test_a_browser_takes_each_step(walk: Walk):
    steps = read_steps()
    for step, take in zip(steps, STEPS, strict=True):
        walk.names.clear()
        walk.pictures.clear()
        take(walk)
        assert step.names <= walk.names, step.title
        assert step.pictures == walk.pictures, step.title
    if SHOTS:
        write_animation(walk.frames, Path(SHOTS, "walk.gif"))
