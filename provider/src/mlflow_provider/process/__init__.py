"""The state that the ``mlflow`` package keeps in a process."""
