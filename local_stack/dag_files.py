"""What Airflow does not say about DAG files: that two of them have a DAG of the same ID."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def duplicate_dag_ids(folder: Path) -> dict[str, list[str]]:
    """Return the DAG IDs that several files claim, with these files.

    Airflow reads each file on its own, and shows the DAG of the one it has read last.

    :param folder: where the DAG files are; paths are relative to it.
    """
    files = defaultdict(list)
    for file in sorted(folder.rglob("*.py")):
        with suppress(SyntaxError):  # which Airflow reports
            for dag_id in _dag_ids(ast.parse(file.read_bytes())):
                files[dag_id].append(str(file.relative_to(folder)))
    return {dag_id: claiming for dag_id, claiming in files.items() if len(claiming) > 1}


def _dag_ids(module: ast.Module) -> Iterator[str]:
    """Yield the names of the functions under ``@dag``, which are the DAGs' IDs unless another is given."""
    for function in (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)):
        for decorator in function.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else ast.Call(decorator, [], [])
            if isinstance(call.func, ast.Name) and call.func.id == "dag":
                given = {keyword.arg: keyword.value for keyword in call.keywords}
                dag_id = call.args[0] if call.args else given.get("dag_id", ast.Constant(function.name))
                if isinstance(dag_id, ast.Constant):
                    yield str(dag_id.value)
