"""The files around the code agree with each other, and none names a private machine."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess

import pytest
import yaml

from local_stack.settings import ROOT, VARIABLES, read_env_file
from mlflow_provider.get_provider_info import get_provider_info

WORKFLOWS = ROOT / ".github" / "workflows"


def text(name: str) -> str:
    return (ROOT / name).read_text()


def tracked(*patterns: str) -> list[str]:
    """The files that git tracks, or would track."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "--", *patterns]
    names = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    return [name for name in names if (ROOT / name).is_file()]


def public_classes(module: str) -> list[str]:
    members = inspect.getmembers(importlib.import_module(module), inspect.isclass)
    return [name for name, each in members if each.__module__ == module and not name.startswith("_")]


@pytest.mark.parametrize(("folder", "limit"), [(".", 10), ("dev", 20)])
def test_make_help_lists_every_target(folder, limit):
    targets = set(re.findall(r"^([a-z-]+):", text(f"{folder}/Makefile"), re.MULTILINE))
    command = ["make", "-s", "--no-print-directory", "-C", folder, "help"]
    lines = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    assert {re.match(r"make (?:-C dev )?([a-z-]+) ", line)[1] for line in lines} == targets
    assert len(lines) <= limit
    [phony] = re.findall(r"^\.PHONY: (.*)$", text(f"{folder}/Makefile"), re.MULTILINE)
    assert set(phony.split()) == targets


def test_the_workflows_run_every_corner_of_the_provider():
    corners = {}
    for workflow in ("ci.yml", "nightly.yml"):
        jobs = yaml.safe_load((WORKFLOWS / workflow).read_text())["jobs"]
        included = jobs["matrix"]["strategy"]["matrix"]["include"]
        corners |= {corner["corner"]: corner["python"] for corner in included}
    in_noxfile = re.findall(r'^    "(\w+)": \(\s*"(3\.\d+)",', text("provider/noxfile.py"), re.MULTILINE)
    assert corners == dict(in_noxfile)


def test_the_example_env_file_shows_every_variable_that_make_up_reads(monkeypatch, tmp_path):
    lines = re.findall(r"^# (\w+=.*)$", text(".env.example"), re.MULTILINE)
    (tmp_path / ".env").write_text("\n".join(lines))
    monkeypatch.setattr("local_stack.settings.ROOT", tmp_path)
    shown = read_env_file()
    assert set(shown) == {"AIRFLOW_CONN_MLFLOW_DEFAULT", *VARIABLES}
    assert json.loads(shown["AIRFLOW_CONN_MLFLOW_DEFAULT"])["conn_type"] == "mlflow"


def test_airflow_and_mlflow_have_the_same_version_everywhere():
    pattern = r"^(apache-airflow|mlflow|mlflow-skinny)==(\d+\.\d+)\.\d+$"
    installed = dict(re.findall(pattern, text("constraints.txt"), re.MULTILINE))
    [airflow] = re.findall(r"^FROM \S+/runtime:(\d+\.\d+)-", text("Dockerfile"), re.MULTILINE)
    [mlflow] = re.findall(r"mlflow/mlflow:v(\d+\.\d+)\.", text("docker-compose.override.yml"))
    assert installed == {"apache-airflow": airflow, "mlflow": mlflow, "mlflow-skinny": mlflow}

    values = yaml.safe_load(text("deploy/kubernetes/airflow-values.yaml"))
    [image] = yaml.safe_load(text("deploy/kubernetes/kustomization.yaml"))["images"]
    assert f"{image['name']}:{image['newTag']}\n" in text("docker-compose.override.yml")
    airflow = values["airflowVersion"]
    assert f"FROM docker.io/apache/airflow:{airflow}\n" in text("deploy/kubernetes/Dockerfile")
    assert f"\napache-airflow=={airflow}\n" in text("constraints.txt")


def test_the_registrys_file_describes_everything_that_dags_import():
    described = yaml.safe_load(text(".airflow-registry.yaml"))
    for kind in ("hooks", "operators", "sensors", "triggers"):
        modules = [module for entry in get_provider_info()[kind] for module in entry["python-modules"]]
        classes = {f"{module}.{name}" for module in modules for name in public_classes(module)}
        assert {entry["module"] for entry in described[kind]} == classes
    for entry in described["other"]:
        module, name = entry["module"].rsplit(".", 1)
        assert hasattr(importlib.import_module(module), name), entry
    assert (ROOT / described["logo"].partition("/main/")[2]).is_file()


def test_no_list_of_requirements_names_a_package_index():
    option = re.compile(
        r"(?m)^\s*(?:-i|-f|--[a-z-]*index-url|--find-links)[ =]|^\s*\[\[?tool\.uv\.(?:index|pip)"
    )
    files = tracked("*.txt", "*.toml", "*.cfg")
    assert {"constraints.txt", "requirements.txt", "pyproject.toml"} <= set(files)
    assert [name for name in files if option.search(text(name))] == []


def test_no_file_names_an_address_of_a_private_network():
    network = re.compile(rb"\b(?:10\.\d{1,3}|192\.168)\.\d{1,3}\.\d{1,3}\b")  # 172.* is Docker's own
    assert [name for name in tracked() if network.search((ROOT / name).read_bytes())] == []
