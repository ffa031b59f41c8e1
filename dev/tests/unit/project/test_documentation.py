"""Every code block of a page is run by a test or says why not, and every link has a target."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from dev.tests.helpers.documentation import PAGES, ROOT, Page, blocks_run_by, read
from local_stack import settings

# By what stands between `make` and the targets.
TARGETS = {
    option: set(re.findall(r"^([a-z-]+):", (ROOT / folder / "Makefile").read_text(), re.MULTILINE))
    for option, folder in {"": ".", "-C dev ": "dev"}.items()
}
MAKE = re.compile(r"\bmake (-C dev )?((?:[a-z-]+ ?)+)")
# Ports of Airflow, MLflow and MinIO, the ones that examples choose instead, and the Astro CLI's proxy.
LOCAL_PORTS = {8080, 5000, 9000, 9001, 8081, 5001, 6563}
CONTAINERS = {"mlflow", "minio"}
DOCUMENTATION = {
    "airflow.apache.org",
    "docs.astral.sh",
    "docs.pypi.org",
    "github.com",
    "mlflow.org",
    "www.astronomer.io",
}


@pytest.fixture(params=PAGES)
def page_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def page(page_name: str) -> Page:
    return read(page_name)


def test_there_are_pages_with_code():
    assert {"README.md", "provider/README.md", "docs/astro.md", ".github/CONTRIBUTING.md"} <= set(PAGES)
    assert read("README.md").blocks


def unknown_targets(text: str) -> list[str]:
    return [
        target
        for option, targets in MAKE.findall(text)
        for target in targets.split()
        if target not in TARGETS[option]
    ]


def test_every_code_block_is_run_or_says_why_not(page):
    def is_make(code: str) -> bool:
        lines = [line.partition("#")[0].strip() for line in code.splitlines()]
        return all(MAKE.fullmatch(line) and unknown_targets(line) == [] for line in lines if line)

    neither = [
        f"{block.place}: say above the block `<!-- run by <test> -->` or `<!-- not run: <reason> -->`"
        for block in page.blocks
        if not (block.run_by or block.not_run_because or is_make(block.code))
    ]
    assert neither == []


def test_a_test_that_is_said_to_run_a_code_block_asks_for_it(page):
    for block in page.blocks:
        if block.run_by:
            source = (ROOT / block.run_by).read_text()
            takes_all = block.language in ("python", "dotenv") and "blocks_run_by(" in source
            asks = takes_all or f'"{block.heading}"' in source
            assert asks, f"{block.place}: {block.run_by} runs no block of {block.heading!r}"


def test_every_make_target_named_in_the_text_exists(page):
    assert unknown_targets(" ".join(re.findall(r"`[^`\n]*`", page.text))) == []


def test_links_inside_the_project_lead_to_a_file_and_a_heading(page, page_name):
    folder = (ROOT / page_name).parent
    for link in page.links:
        path, _, anchor = link.partition("#")
        if urlsplit(link).scheme:
            continue
        target = folder / path if path else ROOT / page_name
        assert target.exists(), f"{page_name}: {link}"
        if anchor:
            assert anchor in read(str(target.resolve().relative_to(ROOT))).anchors, f"{page_name}: {link}"


def test_addresses_are_local_or_examples_or_documentation(page, page_name):
    """Offline: addresses are not requested."""
    for address in re.findall(r"https?://[\w<][^\s`\"')|]*", page.text):
        url = urlsplit(address.rstrip(".,;:"))
        host = url.hostname or ""
        if host in ("localhost", "127.0.0.1"):
            assert url.port in LOCAL_PORTS, f"{page_name}: {address}"
        elif "<" not in address and not host.endswith("example.com") and host not in CONTAINERS:
            assert host in DOCUMENTATION, f"{page_name}: {address}"


@pytest.mark.parametrize(
    "block", blocks_run_by("dev/tests/unit/project/test_documentation.py"), ids=lambda block: block.place
)
def test_a_connection_that_a_page_shows_is_one_that_the_provider_accepts(block, monkeypatch, tmp_path):
    """As ``make up`` reads it from ``.env``."""
    from airflow.sdk import BaseHook

    from mlflow_provider.server.connection import MLflowConnection

    assert block.language == "dotenv", block.place
    (tmp_path / ".env").write_text(block.code)
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    [(name, value)] = settings.read_env_file().items()
    monkeypatch.setenv(name, value.replace("<workspace>", "workspace"))
    connection = MLflowConnection.read("mlflow_default", BaseHook.get_connection)
    assert connection.has_login == ("login" in value)


def test_messages_that_readme_explains_are_said_by_the_stack():
    """Word for word in the source of the stack or the provider, but for what others say."""
    sources = [*(ROOT / "local_stack").glob("*.py"), *(ROOT / "provider" / "src").rglob("*.py")]
    said = " ".join(re.sub(r'"\s+f?"', "", file.read_text()) for file in sources)
    section = read("README.md").text.partition("## When something goes wrong\n")[2].partition("\n## ")[0]
    messages = re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)
    assert len(messages) > 5
    of_others = {"No module named", "Bad Request", "Traces 0"}
    assert [message for message in messages if message not in said and message not in of_others] == []


@pytest.mark.parametrize("skill", [name for name in PAGES if name.startswith("skills/")])
def test_a_skill_says_what_it_is_for_in_its_first_lines(skill):
    """In YAML, between two lines of dashes; its name is its folder's."""
    import yaml

    _, front_matter, _ = (ROOT / skill).read_text("utf-8").split("---\n", 2)
    said = yaml.safe_load(front_matter)
    assert said["name"] == (ROOT / skill).parent.name
    assert len(said["description"]) > 80
