"""Code blocks of the documentation are tested or say why not; links and messages exist."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
import yaml

from dev.tests.helpers.documentation import PAGES, ROOT, Page, blocks_run_by, read
from local_stack import settings
from mlflow_provider.get_provider_info import get_provider_info

# By the text between `make` and the targets.
TARGETS = {
    option: set(re.findall(r"^([a-z-]+):", (ROOT / folder / "Makefile").read_text(), re.MULTILINE))
    for option, folder in {"": ".", "-C dev ": "dev"}.items()
}
MAKE = re.compile(r"\bmake (-C dev )?((?:[a-z-]+ ?)+)")
# Ports of Airflow, MLflow and MinIO, alternatives in the examples, and the proxy of the Astro CLI.
LOCAL_PORTS = {8080, 5000, 9000, 9001, 8081, 5001, 6563}
WRITTEN_BY_TOOLS = {
    "docs/benchmarks/load.md",
    "docs/benchmarks/performance.md",
    "docs/explain/faults.md",
    "docs/troubleshooting/doctor.md",
}
EXAMPLES = ROOT / "provider" / "src" / "mlflow_provider" / "example_dags"
CONTAINERS = {"mlflow", "minio", "host.docker.internal"}
DOCUMENTATION = {
    "airflow.apache.org",
    "docs.astral.sh",
    "docs.databricks.com",
    "docs.docker.com",
    "docs.pypi.org",
    "github.com",
    "kubernetes.io",
    "mlflow.org",
    "www.astronomer.io",
    "www.gnu.org",
    "www.python.org",
}


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> Page:
    return read(request.param)


def test_pages_and_their_code_blocks_are_found():
    assert {"README.md", "provider/README.md", "docs/how-to/astro.md"} <= set(PAGES)
    assert read("README.md").blocks


FOLDERS = ("README", "provider/README", "docs/")
SHORT = [name for name in PAGES if name.startswith(FOLDERS) and name not in WRITTEN_BY_TOOLS]


@pytest.mark.parametrize(("name", "limit"), [(name, 180 if name == "README.md" else 150) for name in SHORT])
def test_a_page_fits_on_three_screens(name, limit):
    assert len((ROOT / name).read_text().splitlines()) <= limit


def test_the_reference_has_every_setting_and_every_example():
    settings_page = read("docs/reference/settings.md").text
    options = get_provider_info()["config"]["mlflow"]["options"]
    assert set(re.findall(r"^\| `(\w+)`", settings_page, re.MULTILINE)) == set(options)
    pages = [ROOT / "docs" / page for page in ("reference/examples.md", "how-to/register.md")]
    included = re.findall(r"/(example_\w+\.py)", "".join(page.read_text() for page in pages))
    assert set(included) == {file.name for file in EXAMPLES.glob("example_*.py")}


def test_every_make_target_in_the_text_exists(page):
    code = "\n".join([*re.findall(r"`([^`\n]*)`", page.text), *(block.code for block in page.blocks)])
    for option, targets in MAKE.findall(re.sub("#.*", "", code)):
        assert TARGETS[option].issuperset(targets.split()), f"{page.path}: make {option}{targets}"


def test_every_code_block_is_run_or_says_why_not(page):
    def only_make(code: str) -> bool:
        return all(line.startswith(("make ", "#")) for line in code.splitlines() if line)

    untested = [
        f"{block.place}: add above the block `<!-- run by <test> -->` or `<!-- not run: <reason> -->`"
        for block in page.blocks
        if not (block.run_by or block.not_run_because or only_make(block.code))
    ]
    assert untested == []


def test_the_test_named_above_a_code_block_runs_it(page):
    for block in page.blocks:
        if block.run_by:
            source = (ROOT / block.run_by).read_text()
            runs_all = "blocks_run_by(" in source and f'block.language == "{block.language}"' in source
            runs = runs_all or f'"{block.heading}"' in source
            assert runs, f"{block.place}: {block.run_by} runs no block of {block.heading!r}"


@pytest.mark.parametrize("page", [name for name in PAGES if not name.startswith("docs/")], indirect=True)
def test_links_inside_the_project_lead_to_a_file_and_a_heading(page):
    """`make -C dev docs` checks those of the site."""
    for link in page.links:
        path, _, anchor = link.partition("#")
        if urlsplit(link).scheme:
            continue
        target = (ROOT / page.path).parent / path if path else ROOT / page.path
        assert target.exists(), f"{page.path}: {link}"
        if anchor:
            assert anchor in read(str(target.resolve().relative_to(ROOT))).anchors, f"{page.path}: {link}"


def test_addresses_are_local_or_examples_or_documentation(page):
    """Requests nothing: tests need no network."""
    for address in re.findall(r"https?://[\w<][^\s`\"')|]*", page.text):
        url = urlsplit(address.rstrip(".,;:"))
        host = url.hostname or ""
        if host in ("localhost", "127.0.0.1"):
            assert url.port in LOCAL_PORTS, f"{page.path}: {address}"
        elif "<" not in address and not host.endswith("example.com") and host not in CONTAINERS:
            assert host in DOCUMENTATION, f"{page.path}: {address}"


@pytest.mark.parametrize(
    "block", blocks_run_by("dev/tests/unit/project/test_documentation.py"), ids=lambda block: block.place
)
def test_the_provider_accepts_the_connections_of_the_pages(block, monkeypatch, tmp_path):
    """Read as ``make up`` reads ``.env``."""
    from airflow.sdk import BaseHook

    from mlflow_provider.server.artifact_store import ArtifactStore
    from mlflow_provider.server.connection import MLflowConnection

    assert block.language == "dotenv", block.place
    (tmp_path / ".env").write_text(block.code)
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    connections = settings.read_env_file()
    for name, value in connections.items():
        monkeypatch.setenv(name, re.sub("[<>]", "", value))
    if value := connections.get("AIRFLOW_CONN_MLFLOW_DEFAULT", ""):
        connection = MLflowConnection.read("mlflow_default", BaseHook.get_connection)
        has_login = re.search('"(login|auth|token_file)"', value)
        assert bool(str(connection.login)) == bool(has_login)
    else:
        ArtifactStore.read("my_store", BaseHook.get_connection)


def test_the_messages_that_the_page_explains_are_in_the_source():
    files = [*(ROOT / "local_stack").glob("*.py"), *(ROOT / "provider" / "src").rglob("*.py")]
    source = " ".join(re.sub(r'"\s+f?"', "", file.read_text()) for file in files)
    messages = set(re.findall(r"^\| `([^`]+)`", read("docs/troubleshooting/messages.md").text, re.MULTILINE))
    assert len(messages) > 5
    messages -= {"No module named", "Bad Request", "Traces 0"}  # from Python, Airflow and MLflow
    assert [message for message in messages if message not in source] == []


@pytest.mark.parametrize("skill", [name for name in PAGES if name.startswith("skills/")])
def test_a_skill_has_the_format_of_astronomers_skills(skill):
    """See CONTRIBUTING.md of https://github.com/astronomer/agents. A plugin has only the skill's folder."""
    _, front_matter, text = (ROOT / skill).read_text("utf-8").split("---\n", 2)
    metadata = yaml.safe_load(front_matter)
    assert set(metadata) == {"name", "description"}
    assert metadata["name"] == (ROOT / skill).parent.name
    assert re.fullmatch(r"[a-z\d]+(-[a-z\d]+)*", metadata["name"])
    assert re.fullmatch(r".+\. Use when .+\.", metadata["description"])
    assert len(metadata["description"]) <= 1024
    assert text.startswith("\n# ")
    assert [link for link in read(skill).links if link.startswith("..")] == []
