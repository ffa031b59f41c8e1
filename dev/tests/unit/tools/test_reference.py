"""The provider's API reference: what is public, all of it, and one page leads to the next."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import mlflow_provider
from local_stack.settings import ROOT

PRIVATE = ("listeners", "plugins", "policies", "predict", "process", "server", "tracking", "version_compat")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages' texts, by their paths."""
    folder = tmp_path_factory.mktemp("reference")
    script = "import pathlib, sys; from dev.tools.reference import write; write(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, folder], cwd=ROOT, check=True)
    return {file.relative_to(folder): file.read_text() for file in folder.rglob("*.html")}


def links(pages, page):
    """The pages that a page links to, and the one that it forwards to."""
    found = re.findall(r'(?:href="|url=)([^"#$:]+\.html)', pages[page])
    return {Path("/", page.parent, link).resolve().relative_to("/") for link in found}


def test_it_has_what_a_dag_imports_and_nothing_else(pages):
    files = {str(page) for page in pages}
    assert {
        "mlflow_provider/decorators/mlflow.html",
        "mlflow_provider/hooks/client.html",
        "mlflow_provider/operators/registry.html",
        "mlflow_provider/sensors/registry.html",
        "mlflow_provider/triggers/registry.html",
        "mlflow_provider/exceptions.html",
    } <= files
    assert [
        file for file in files if file.startswith(tuple(f"mlflow_provider/{name}" for name in PRIVATE))
    ] == []


def test_its_first_page_leads_to_all_others(pages):
    reached, new = set(), {Path("index.html")}
    while new:
        reached |= new
        new = set().union(*(links(pages, page) for page in new)) - reached
        assert new <= set(pages), "a link leads nowhere"
    assert reached == set(pages)


def test_it_has_what_the_package_imports_only_when_asked_for(pages):
    first = pages[Path("mlflow_provider.html")]
    for name in mlflow_provider.__all__:
        assert f'<span class="name">{name}</span><span class="signature' in first
