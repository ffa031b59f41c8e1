"""Example DAGs, one for each feature; ``[core] load_examples`` adds them to Airflow 3.3 and later."""
