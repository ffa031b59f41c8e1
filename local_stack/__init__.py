"""The stack without Docker: ``python -m local_stack up | down | status | demo | doctor``.

Airflow and MLflow run as ordinary processes under a process supervisor, listen on loopback only, and keep
everything they write in ``.local/``.
"""

import sys

# Every command reads this file first, so this one file must parse on a Python that is too old for the rest.
if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(
        "Python 3.10 or newer is required, but this is %d.%d (%s). "  # noqa: UP031
        "Choose another one, for example: make PYTHON=python3.12 up"
        % (sys.version_info[0], sys.version_info[1], sys.executable)
    )
