"""Read code blocks, headings and links of the project's pages.

A comment on the line before a code block names the test that runs it, or says why none does.
dev/tests/mlflow/test_documentation.py runs Python blocks without a comment::

    <!-- run by dev/tests/lifecycle/test_your_own_project.py -->
    <!-- not run: needs a Databricks workspace -->
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted(
    str(file.relative_to(ROOT))
    for pattern in ("*.md", "[!.]*/*.md", "docs/*/*.md", ".github/*.md", "include/*/*.md", "skills/*/*.md")
    for file in ROOT.glob(pattern)
)
PYTHON_RUNNER = "dev/tests/mlflow/test_documentation.py"
# For tasks that a page shows without a DAG.
DAG_TEMPLATE = """\
from airflow.sdk import DAG
from airflow.sdk.bases.decorator import is_decorated_task

with DAG("documented") as documented:
{code}
    if not documented.tasks:
        for function in list(filter(is_decorated_task, globals().values())):
            function()
"""


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    :param page: path of the page, relative to the project.
    :param line: number of the line that opens the block.
    :param heading: the nearest heading above.
    :param run_by: path of the test file that runs the block, or empty.
    :param not_run_because: reason why no test runs it.
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
        """The file name in a comment on the block's first line, if any."""
        comment = re.match(r"# (?:\S+/)?(\w+\.py)\n", self.code)
        return comment[1] if comment else ""

    @property
    def dag_file(self) -> str:
        """The block as a DAG file; its tasks are put into a DAG if it has none."""
        if "@dag" in self.code:
            return self.code
        return DAG_TEMPLATE.format(code=textwrap.indent(self.code, "    "))

    @property
    def pattern(self) -> str:
        """The text as a regular expression, in one line; ``...`` stands for anything without a space."""
        return re.escape(" ".join(self.code.split())).replace(re.escape("..."), r"\S+")


@dataclass(frozen=True)
class Page:
    """A page's blocks and headings, and its text without the blocks."""

    path: str
    blocks: list[Block]
    headings: list[str]
    text: str

    @property
    def anchors(self) -> set[str]:
        """The anchors that GitHub generates for the headings."""
        plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in self.headings)
        return {heading.replace(" ", "-") for heading in plain}

    @property
    def links(self) -> list[str]:
        """Targets of links and pictures."""
        text = re.sub(r"`[^`\n]*`", "``", self.text)
        return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)


def read(path: str) -> Page:
    """Read a page of ``PAGES``."""
    blocks: list[Block] = []
    headings: list[str] = []
    text: list[str] = []
    last_line = ""  # the last line that is not empty
    fence: re.Match[str] | None = None
    for number, line in enumerate((ROOT / path).read_text("utf-8").splitlines(), 1):
        if fence is None:
            if fence := re.match(r"( *)(`{3,})(\S*)$", line):
                first_line, code = number, []
            else:
                text.append(line)
                if heading := re.match(r"#+ (.+)", line):
                    headings.append(heading[1])
                last_line = line.strip() or last_line
        elif line.strip() == fence[2]:
            indent, _, language = fence.groups()
            run_by = re.fullmatch(r"<!-- run by (\S+) -->", last_line)
            not_run = re.fullmatch(r"<!-- not run: (.+) -->", last_line)
            default = PYTHON_RUNNER if language == "python" and not not_run else ""
            blocks.append(
                Block(
                    path,
                    first_line,
                    headings[-1] if headings else "",
                    language,
                    "".join(f"{row.removeprefix(indent)}\n" for row in code),
                    run_by[1] if run_by else default,
                    not_run[1] if not_run else "",
                )
            )
            last_line, fence = "", None
        else:
            code.append(line)
    assert fence is None, f"{path}:{first_line}: the code block is not closed"
    return Page(path, blocks, headings, "\n".join(text))


def blocks_run_by(test: str) -> list[Block]:
    """Return the blocks that a test file must run.

    :param test: path of the test file, relative to the project.
    """
    return [block for page in PAGES for block in read(page).blocks if block.run_by == test]


def code(page: str, heading: str, language: str) -> str:
    """Return all code of a section in one language.

    :param heading: the section's heading; subsections are not included.
    """
    blocks = [
        block.code
        for block in read(page).blocks
        if (block.heading, block.language) == (heading, language) and not block.not_run_because
    ]
    assert blocks, f"{page} has no block of {language} below the heading {heading!r}"
    return "".join(blocks)
