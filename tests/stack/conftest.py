"""A real browser, for what only a browser can show."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

# Without these, Chromium talks to its maker.
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
PATIENCE_MILLISECONDS = 60_000


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the machine's Chromium."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        missing = "No Chromium on PATH; on Debian and Ubuntu: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return found


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    """A page in a new browser."""
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        # A sandbox of its own Chromium denies to root.
        browser = playwright.chromium.launch(
            executable_path=chromium, args=QUIET, chromium_sandbox=os.geteuid() != 0
        )
        context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US")
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        yield context.new_page()
        browser.close()
