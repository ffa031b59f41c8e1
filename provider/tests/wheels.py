"""Wheels that install from a file, so that a model's virtualenv takes seconds and needs no index."""

from __future__ import annotations

import sysconfig
import zipfile
from pathlib import Path


def make_wheel(folder: Path, name: str, files: dict[str, str]) -> Path:
    """Write a wheel with these files, of version 1.0, and return its path."""
    info = f"{name}-1.0.dist-info"
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": "".join(f"{path},,\n" for path in files)}.items():
            archive.writestr(path, text)
    return wheel


def make_mlflow_wheel(folder: Path) -> Path:
    """Write a wheel that replaces MLflow with the packages of the Python that runs the tests."""
    return make_wheel(
        folder, "mlflow_skinny", {"packages_of_tests.pth": sysconfig.get_path("purelib") + "\n"}
    )
