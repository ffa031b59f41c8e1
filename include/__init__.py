"""Code and data that the DAGs share."""
