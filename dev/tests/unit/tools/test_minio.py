"""MinIO is compiled once, also by several processes. A script replaces Go, which would take minutes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dev.tools import minio


@pytest.fixture
def go(tmp_path, monkeypatch):
    """A function that makes a Go command, which notes its module and writes the program."""
    monkeypatch.setattr(minio, "FOLDER", tmp_path / "minio-build")

    def make(write: str) -> str:
        script = tmp_path / "go"
        script.write_text(
            f"""#!/bin/sh
for module; do :; done
echo "$module" >> {tmp_path}/modules
program=${{module%@*}}
{write} > "$GOBIN/${{program##*/}}"
"""
        )
        script.chmod(0o755)
        return str(script)

    return make


def test_two_callers_at_once_compile_it_once(go, tmp_path):
    command = go("sleep 0.5; echo complete")
    with ThreadPoolExecutor() as pool:
        list(pool.map(minio.compile_minio, [command, command]))
    assert (tmp_path / "modules").read_text().split() == list(minio.MODULES.values())
    assert (minio.FOLDER / "minio").read_text() == "complete\n"
    assert minio.missing() == []


def test_a_failed_compilation_leaves_no_program_and_can_be_repeated(go):
    with pytest.raises(RuntimeError, match="minio could not be compiled: no space"):
        minio.compile_minio(go("echo no space >&2; false"))
    assert minio.missing() == ["minio", "mc"]
    minio.compile_minio(go("echo complete"))
    assert minio.missing() == []
