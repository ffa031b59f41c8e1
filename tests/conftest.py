"""For `astro dev pytest`: in the project's image, only the tests of the DAGs have all that they need."""

import importlib.util

if importlib.util.find_spec("local") is None:
    needing_more = ("docker", "helpers", "mlflow", "stack", "unit/include", "unit/local")
    collect_ignore_glob = ["*.py", *needing_more]
