"""What the files around the code say: that it exists, agrees with the rest, and names no machine."""

from __future__ import annotations

import itertools
import json
import re
import subprocess

import pytest
import yaml

from dev.tools.bump import PROOF
from local_stack.ports import WITH_MINIO, Ports
from local_stack.settings import ROOT, read_env_file

MAKEFILE = (ROOT / "Makefile").read_text()
DEV_CONTAINER = ROOT / ".devcontainer" / "devcontainer.json"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# Where a command begins: on a line, after another one, or after variables for it.
MAKE = re.compile(r"(?m)(?:^ *|[;&] *|^[A-Z_]+=.* )make((?: +(?:-[a-zA-Z]\S*|[a-z][a-z-]*|[A-Z]+=\S*))+)")


def tracked(*patterns: str) -> list[str]:
    """The files that git knows, or would."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "--", *patterns]
    names = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    return [name for name in names if (ROOT / name).is_file()]


def targets_in(code: str) -> set[str]:
    return {word for words in MAKE.findall(code) for word in words.split() if re.fullmatch("[a-z-]+", word)}


def code_in(markdown: str) -> str:
    blocks = re.findall(r"^```.*?\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*blocks, *spans])


def jobs(workflow: dict) -> list[tuple[dict, dict]]:
    """Each job of a workflow, with each choice of its matrix."""
    found = []
    for job in workflow["jobs"].values():
        matrix = dict(job.get("strategy", {}).get("matrix", {}))
        choices = matrix.pop("include", []) or [
            dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())
        ]
        found += [(job, choice) for choice in choices]
    return found


def commands(workflow: dict) -> list[str]:
    """What the steps of a workflow run, with the values of its matrix in place."""
    found = []
    for job, choice in jobs(workflow):
        for step in job["steps"]:
            command = step.get("run", "")
            for name, value in choice.items():
                command = command.replace(f"${{{{ matrix.{name} }}}}", str(value))
            found.append(command)
    return found


def named_targets() -> dict[str, set[str]]:
    """The targets that each file names, where it names any."""
    code = {name: code_in((ROOT / name).read_text()) for name in tracked("*.md")}
    code |= {
        str(file.relative_to(ROOT)): "\n".join(commands(yaml.safe_load(file.read_text())))
        for file in WORKFLOWS
    }
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    code[".pre-commit-config.yaml"] = "\n".join(hook["entry"] for hook in hooks)
    code[".devcontainer"] = dev_container()["postStartCommand"]
    code[".ci/run"] = (ROOT / ".ci" / "run").read_text()
    code["make bump"] = PROOF
    return {name: found for name, text in code.items() if (found := targets_in(text))}


def dev_container() -> dict:
    """Its configuration, which is JSON with comments on lines of their own."""
    return json.loads(re.sub(r"^\s*//.*$", "", DEV_CONTAINER.read_text(), flags=re.MULTILINE))


class TestMakefile:
    targets = dict(re.findall(r"^([a-z-]+):.*?(## .*)?$", MAKEFILE, re.MULTILINE))

    def test_every_target_is_explained_and_phony(self):
        assert [name for name, help_ in self.targets.items() if not help_] == []
        [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
        assert set(phony.split()) == set(self.targets)

    def test_help_lists_every_target_in_a_group(self):
        said = subprocess.check_output(["make", "-s", "help"], cwd=ROOT, text=True)
        listed = re.findall(r"^  make ([a-z-]+) ", said, re.MULTILINE)
        assert sorted(listed) == sorted(self.targets)
        assert re.findall(r"^\S.*$", said, re.MULTILINE) == ["To use it", "To test it", "To work on it"]
        assert max(map(len, said.splitlines())) <= 110

    def test_every_target_that_a_file_names_exists(self):
        named = named_targets()
        assert {
            ".github/CONTRIBUTING.md",
            ".github/workflows/ci.yml",
            ".github/workflows/release.yml",
        } <= set(named)
        assert {".pre-commit-config.yaml", ".devcontainer", ".ci/run", "README.md"} <= set(named)
        unknown = {name: found - set(self.targets) for name, found in named.items()}
        assert {name: found for name, found in unknown.items() if found} == {}

    def test_every_suite_is_run_by_the_workflow(self):
        suites = {"check", "test", "stack-test", "lifecycle-test", "docker-test", "celery-test"}
        assert named_targets()[".github/workflows/ci.yml"] == suites | {"matrix", "package"}


class TestWorkflows:
    @pytest.fixture(params=WORKFLOWS, ids=lambda file: file.name)
    def workflow(self, request):
        return yaml.safe_load(request.param.read_text())

    def test_it_may_only_read(self, workflow):
        assert workflow["permissions"] == {"contents": "read"}
        more = [job["permissions"] for job in workflow["jobs"].values() if "permissions" in job]
        assert more in ([], [{"id-token": "write"}])  # for PyPI's trusted publisher

    def test_every_action_is_pinned_to_a_major_version_or_a_release_branch(self, workflow):
        actions = {
            step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step
        }
        assert actions
        assert [name for name in actions if not re.search(r"@(v\d+|release/v\d+|[0-9a-f]{40})$", name)] == []

    def test_the_corners_are_those_of_the_provider(self):
        workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
        corners = {
            corner["corner"]: corner["python"]
            for corner in workflow["jobs"]["matrix"]["strategy"]["matrix"]["include"]
        }
        noxfile = (ROOT / "provider" / "noxfile.py").read_text()
        assert corners == dict(re.findall(r'^    "(\w+)": \(\s*"(3\.\d+)",', noxfile, re.MULTILINE))


def test_the_dev_container_brings_the_stack_up_and_forwards_its_ports():
    usual = Ports()
    assert dev_container()["postStartCommand"] == "make up"
    assert dev_container()["forwardPorts"] == [usual.airflow, usual.mlflow]
    labels = {
        int(port): attributes["label"] for port, attributes in dev_container()["portsAttributes"].items()
    }
    assert labels == {usual.airflow: "Airflow", usual.mlflow: "MLflow", WITH_MINIO.minio_console: "MinIO"}


@pytest.mark.parametrize("name", ["bug.yml", "idea.yml"])
def test_an_issue_template_asks_for_something(name):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text())
    assert {"name", "description", "body"} <= set(form)
    ids = [question["id"] for question in form["body"]]
    assert len(ids) == len(set(ids))
    assert any(question.get("validations", {}).get("required") for question in form["body"])


def test_the_example_of_an_env_file_shows_all_that_make_up_reads(monkeypatch, tmp_path):
    lines = re.findall(r"^# (\w+=.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    (tmp_path / ".env").write_text("\n".join(lines))
    monkeypatch.setattr("local_stack.settings.ROOT", tmp_path)
    shown = read_env_file()
    assert set(shown) == {"AIRFLOW_CONN_MLFLOW_DEFAULT", "MINIO", "MLFLOW_AUTH", *WITH_MINIO.variables()}
    assert json.loads(shown["AIRFLOW_CONN_MLFLOW_DEFAULT"])["conn_type"] == "mlflow"


def test_with_and_without_docker_airflow_and_mlflow_have_the_same_minor_version():
    installed = dict(
        re.findall(
            r"^(apache-airflow|mlflow|mlflow-skinny)==(\d+\.\d+)",
            (ROOT / "constraints.txt").read_text(),
            re.MULTILINE,
        )
    )
    [airflow] = re.findall(r"^FROM \S+/runtime:(\d+\.\d+)-", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    [mlflow] = re.findall(r"mlflow/mlflow:v(\d+\.\d+)\.", (ROOT / "docker-compose.override.yml").read_text())
    assert installed == {"apache-airflow": airflow, "mlflow": mlflow, "mlflow-skinny": mlflow}


def test_kubernetes_has_the_versions_of_the_docker_stack():
    kubernetes = ROOT / "deploy" / "kubernetes"
    values = yaml.safe_load((kubernetes / "airflow-values.yaml").read_text())
    [mlflow] = yaml.safe_load((kubernetes / "kustomization.yaml").read_text())["images"]
    airflow = f"docker.io/apache/airflow:{values['airflowVersion']}"
    assert f"{mlflow['name']}:{mlflow['newTag']}\n" in (ROOT / "docker-compose.override.yml").read_text()
    assert f"FROM {airflow}\n" in (ROOT / "deploy" / "Dockerfile").read_text()
    assert f"\napache-airflow=={values['airflowVersion']}\n" in (ROOT / "constraints.txt").read_text()


def test_renovate_groups_packages_that_are_there():
    rules = json.loads((ROOT / ".github" / "renovate.json").read_text())["packageRules"]
    text = "".join(
        (ROOT / name).read_text() for name in ("constraints.txt", "Dockerfile", "docker-compose.override.yml")
    )
    names = [name for rule in rules for name in rule.get("matchPackageNames", [])]
    assert names
    assert [name for name in names if not re.search(rf"(?m)(?:^|\s){re.escape(name)}[:=]", text)] == []


def test_no_list_of_requirements_names_a_package_index():
    option = re.compile(
        r"(?m)^\s*(?:-i|-f|--[a-z-]*index-url|--find-links)[ =]|^\s*\[\[?tool\.uv\.(?:index|pip)"
    )
    files = tracked("*.txt", "*.toml", "*.cfg")
    assert {"constraints.txt", "requirements.txt", "pyproject.toml"} <= set(files)
    assert [name for name in files if option.search((ROOT / name).read_text())] == []


def test_no_file_names_an_address_of_a_private_network():
    network = re.compile(rb"\b(?:10\.\d{1,3}|192\.168)\.\d{1,3}\.\d{1,3}\b")  # 172.* is Docker's own
    assert [name for name in tracked() if network.search((ROOT / name).read_bytes())] == []
