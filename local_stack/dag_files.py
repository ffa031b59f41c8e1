"""Find DAG files that define the same DAG ID; Airflow 3.3 does not warn about them."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def duplicate_dag_ids(folder: Path) -> dict[str, list[str]]:
    """Return the DAG IDs that several files define, with the paths of these files relative to the folder.

    Airflow parses each file separately, and shows the DAG of the file that it parsed last.
    """
    files = defaultdict(list)
    for file in sorted(folder.rglob("*.py")):
        with suppress(SyntaxError):  # which Airflow reports
            for dag_id in _dag_ids(ast.parse(file.read_bytes())):
                files[dag_id].append(str(file.relative_to(folder)))
    return {dag_id: names for dag_id, names in files.items() if len(names) > 1}


def _dag_ids(module: ast.Module) -> Iterator[str]:
    """Yield the IDs of the DAGs that ``@dag`` defines: its argument, otherwise the function's name."""
    for function in (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)):
        for decorator in function.decorator_list:
            call = decorator if isinstance(decorator, ast.Call) else ast.Call(decorator, [], [])
            if isinstance(call.func, ast.Name) and call.func.id == "dag":
                keywords = {keyword.arg: keyword.value for keyword in call.keywords}
                dag_id = call.args[0] if call.args else keywords.get("dag_id", ast.Constant(function.name))
                if isinstance(dag_id, ast.Constant):
                    yield str(dag_id.value)
