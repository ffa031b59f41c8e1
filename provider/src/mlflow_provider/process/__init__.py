"""The ``mlflow`` package in this process: which server it uses, and the private names that this takes."""
