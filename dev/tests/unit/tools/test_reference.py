"""The provider's API reference has all public modules and names, and nothing else."""

import subprocess
import sys

import pytest

import mlflow_provider
from local_stack.settings import ROOT

PUBLIC = ("decorators/mlflow", "exceptions", "hooks/client", "operators/registry", "sensors/registry")
PRIVATE = ("listeners", "plugins", "policies", "predict", "process", "server", "tracking", "version_compat")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The texts of the pages, by their paths."""
    folder = tmp_path_factory.mktemp("reference")
    script = "import pathlib, sys; from dev.tools.reference import write; write(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, folder], cwd=ROOT, check=True)
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*.html")}


def test_it_has_what_a_dag_imports_and_nothing_else(pages):
    assert {f"mlflow_provider/{name}.html" for name in (*PUBLIC, "triggers/registry")} <= set(pages)
    private = tuple(f"mlflow_provider/{name}" for name in PRIVATE)
    assert [page for page in pages if page.startswith(private)] == []


def test_it_has_the_names_that_the_package_imports_lazily(pages):
    for name in mlflow_provider.__all__:
        assert f'<span class="name">{name}</span><span class="signature' in pages["mlflow_provider.html"]
