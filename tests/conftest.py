"""For `astro dev pytest`: in the project's image, only the tests of the DAGs have all that they need."""

import importlib.util
from pathlib import Path

if importlib.util.find_spec("local") is None:
    collect_ignore = [path.name for path in Path(__file__).parent.iterdir() if path.name != "dags"]
