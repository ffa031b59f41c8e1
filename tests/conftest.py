"""For `astro dev pytest`: in the project's image, only the tests of the DAGs have all that they need."""

import importlib.util

if importlib.util.find_spec("local_stack") is None:
    collect_ignore = ["docker", "executors", "faults", "helpers", "lifecycle", "mlflow", "stack"]
    collect_ignore += [
        "unit/docs",
        "unit/helpers",
        "unit/include",
        "unit/local",
        "unit/project",
        "unit/tools",
    ]
