"""Write the provider's API reference as HTML: its package, errors, and the modules in its provider info."""

from __future__ import annotations

import shutil
from pathlib import Path

import pdoc

import mlflow_provider
from local_stack.settings import LOCAL
from mlflow_provider.get_provider_info import get_provider_info

REFERENCE = LOCAL / "reference"


def public_modules() -> list[str]:
    """Return the names of the modules that a DAG may import from."""
    info = get_provider_info()
    named = {
        module
        for kind in ("hooks", "operators", "sensors", "triggers")
        for integration in info[kind]
        for module in integration["python-modules"]
    }
    classes = [decorator["class-name"] for decorator in info["task-decorators"]] + info["extra-links"]
    named |= {name.rpartition(".")[0] for name in classes}
    packages = {module.rpartition(".")[0] for module in named}
    return sorted({*named, *packages, "mlflow_provider", "mlflow_provider.exceptions"})


def write(folder: Path) -> None:
    """Write the pages into a folder, which is emptied first."""
    for name in mlflow_provider.__all__:  # which the package imports lazily
        setattr(mlflow_provider, name, getattr(mlflow_provider, name))
    public = public_modules()
    # pdoc includes all submodules of a package, except of the first, whose __all__ names no module.
    below = {".".join(name.split(".")[:2]) for name in public}
    shutil.rmtree(folder, ignore_errors=True)
    pdoc.render.configure(docformat="restructuredtext")
    pdoc.pdoc(*sorted(below), rf"!(?!({'|'.join(public)})$)", output_directory=folder)


if __name__ == "__main__":
    write(REFERENCE)
    print(f"The reference is written; open {REFERENCE / 'index.html'}")
