"""MinIO is compiled once, whoever wants it. A script is in Go's place, which would take minutes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dev.tests.helpers import minio_build


@pytest.fixture
def go(tmp_path, monkeypatch):
    """A function that makes a Go command: it notes each module, and writes the program as it is told."""
    monkeypatch.setattr(minio_build, "FOLDER", tmp_path / "minio-build")

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


def test_two_that_want_it_at_once_compile_it_once(go, tmp_path):
    command = go("sleep 0.5; echo whole")
    with ThreadPoolExecutor() as pool:
        list(pool.map(minio_build.compile_minio, [command, command]))
    assert (tmp_path / "modules").read_text().split() == list(minio_build.MODULES.values())
    assert (minio_build.FOLDER / "minio").read_text() == "whole\n"
    assert minio_build.missing() == []


def test_what_failed_half_way_is_not_taken_for_the_program(go):
    with pytest.raises(RuntimeError, match="minio could not be compiled: no space"):
        minio_build.compile_minio(go("echo no space >&2; false"))
    assert minio_build.missing() == ["minio", "mc"]
    minio_build.compile_minio(go("echo whole"))
    assert minio_build.missing() == []
