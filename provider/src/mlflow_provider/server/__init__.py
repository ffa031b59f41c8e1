"""Everything that talks to the MLflow server.

``connection`` reads an Airflow connection: ``fields`` checks the fields, ``logins.choice`` chooses the login.
A request passes ``rest``, which turns failures into errors that say what to do; ``session``, which retries
and limits it; ``login``, which sends it again after a 401; and one of the ``logins``, which adds the header.
The ``mlflow`` package gets the same login from ``request_auth``.
"""
