"""What can be checked for macOS on Linux: no /proc, no tools that only GNU has, and bash 3.2."""

from __future__ import annotations

import re

import pytest

from dev.tests.helpers.documentation import PAGES, ROOT, read

LINUX_ONLY = re.compile(
    r"/proc\b|/dev/shm|\b(?:epoll|eventfd|inotify|memfd|pidfd|posix_fadvise|prctl|SCHED_|sched_set|SIGRT)"
)
GNU_ONLY = re.compile(
    r"\b(?:sed -i |readlink -f|realpath|grep -\w*P|date -d|stat -c|xargs -r|nproc|sha256sum|setsid)"
    r"|\btimeout \d|-printf|head -n -|cp -\w*t |\bmktemp --"
)
AFTER_BASH_3 = re.compile(
    r"\b(?:mapfile|readarray|coproc|declare -A|local -n)\b|&>>|\|&|\$\{\w+(?:,,|\^\^|@)"
)
# Only used on Linux: the scheduling policy, and a path with a per cent sign.
GUARDED = {"local_stack/supervision.py"}


def test_python_uses_nothing_that_only_linux_has():
    folders = ("local_stack", "provider/src", "include", "dags", "plugins")
    files = {file for folder in folders for file in (ROOT / folder).rglob("*.py")}
    code = {str(file.relative_to(ROOT)): re.sub("#.*", "", file.read_text("utf-8")) for file in files}
    assert {name for name, text in code.items() if LINUX_ONLY.search(text)} == GUARDED


@pytest.mark.parametrize("pattern", [GNU_ONLY, AFTER_BASH_3], ids=["gnu", "bash"])
def test_shell_commands_run_with_the_tools_of_macos(pattern):
    commands = {
        block.place: block.code for page in PAGES for block in read(page).blocks if block.language == "bash"
    }
    commands |= {name: (ROOT / name).read_text() for name in ("Makefile", ".devcontainer/devcontainer.json")}
    assert {place: found[0] for place, text in commands.items() if (found := pattern.search(text))} == {}
