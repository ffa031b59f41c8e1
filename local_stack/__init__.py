"""The whole stack on this machine, without Docker: ``python -m local_stack up | down | status | demo``.

Airflow and MLflow run as ordinary processes of the user under a process supervisor, listen on the
loopback interface only, and keep everything they write in ``.local/``.
"""

import sys

# Checked here because this is the first file that every command of the package reads: it alone has to
# parse on a Python too old for the rest.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(
        "Python 3.10 or newer is needed, this is %d.%d (%s). "  # noqa: UP031
        "Name another one, for example: make PYTHON=python3.12 up"
        % (sys.version_info[0], sys.version_info[1], sys.executable)
    )
