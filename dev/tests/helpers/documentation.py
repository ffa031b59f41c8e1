"""The project's pages, as the tests read them: code blocks, headings and links.

What a page shows is true because a test runs it. A comment in the page's source, on the line before a code
block, says which one; a Python block without one is run by dev/tests/mlflow/test_documentation.py::

    <!-- run by dev/tests/lifecycle/test_your_own_project.py -->
    <!-- not run: needs a Databricks workspace -->
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(
    str(file.relative_to(ROOT))
    for pattern in ("*.md", "[!.]*/*.md", ".github/*.md", "deploy/*/*.md", "include/*/*.md", "skills/*/*.md")
    for file in ROOT.glob(pattern)
)
PYTHON_RUNNER = "dev/tests/mlflow/test_documentation.py"


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    :param page: path of the page, from the project's root.
    :param line: number of the line that opens the block.
    :param heading: the heading it stands below.
    :param run_by: path of the test file that runs it; empty if none does.
    :param not_run_because: why none does.
    """

    page: str
    line: int
    heading: str
    language: str
    code: str
    run_by: str
    not_run_because: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file_name(self) -> str:
        """The file that it is to be saved as, which a comment in its first line may say."""
        named = re.match(r"# (?:\S+/)?(\w+\.py)\n", self.code)
        return named[1] if named else ""


@dataclass(frozen=True)
class Page:
    """A page's blocks and headings, and its text without the blocks."""

    blocks: list[Block]
    headings: list[str]
    text: str

    @property
    def anchors(self) -> set[str]:
        """What a link to a heading may end with, as GitHub makes it."""
        plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in self.headings)
        return {heading.replace(" ", "-") for heading in plain}

    @property
    def links(self) -> list[str]:
        """Where the page's links and pictures lead."""
        text = re.sub(r"`[^`\n]*`", "``", self.text)
        return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)


def read(page: str) -> Page:
    """Read a page of ``PAGES``."""
    blocks: list[Block] = []
    headings: list[str] = []
    text: list[str] = []
    before = ""  # the last line that was not empty
    fence: re.Match[str] | None = None
    for number, line in enumerate((ROOT / page).read_text("utf-8").splitlines(), 1):
        if fence is None:
            if fence := re.match(r"( *)(`{3,})(\S*)$", line):
                opened, code = number, []
            else:
                text.append(line)
                if heading := re.match(r"#+ (.+)", line):
                    headings.append(heading[1])
                before = line.strip() or before
        elif line.strip() == fence[2]:
            run_by = re.fullmatch(r"<!-- run by (\S+) -->", before)
            not_run = re.fullmatch(r"<!-- not run: (.+) -->", before)
            by_default = PYTHON_RUNNER if fence[3] == "python" and not not_run else ""
            blocks.append(
                Block(
                    page,
                    opened,
                    headings[-1] if headings else "",
                    fence[3],
                    "".join(f"{row.removeprefix(fence[1])}\n" for row in code),
                    run_by[1] if run_by else by_default,
                    not_run[1] if not_run else "",
                )
            )
            before, fence = "", None
        else:
            code.append(line)
    assert fence is None, f"{page}:{opened}: the code block is not closed"
    return Page(blocks, headings, "\n".join(text))


def blocks_run_by(test: str) -> list[Block]:
    """Return the blocks that a test file has to run.

    :param test: its path, from the project's root.
    """
    return [block for page in PAGES for block in read(page).blocks if block.run_by == test]


def code(page: str, heading: str, language: str) -> str:
    """Return the code of a section in one language, one block after the other.

    :param heading: the section's heading; those below it are sections of their own.
    """
    found = [
        block.code
        for block in read(page).blocks
        if (block.heading, block.language) == (heading, language) and not block.not_run_because
    ]
    assert found, f"{page} has no block of {language} below the heading {heading!r}"
    return "".join(found)
