"""``python -m mlflow_provider.doctor``; the exit code is 1 if a check failed."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from dataclasses import asdict

from mlflow_provider.doctor import examine


def main() -> int:
    """Run the checks and print each result as soon as it is available."""
    parser = argparse.ArgumentParser(
        prog="python -m mlflow_provider.doctor",
        description="Find out why artifacts get lost between this machine and MLflow.",
    )
    parser.add_argument("--conn-id", default="mlflow_default", help="connection to MLflow (%(default)s)")
    parser.add_argument(
        "--experiment", help="experiment to examine; by default a new one, which is deleted afterwards"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    arguments = parser.parse_args()
    # The checks say more than the libraries' logs and warnings.
    logging.disable()
    warnings.simplefilter("ignore")
    # As Airflow's own commands do; a task would read the connection through its supervisor.
    from airflow.models import Connection

    results = []
    for result in examine(
        arguments.conn_id,
        experiment=arguments.experiment,
        get_connection=Connection.get_connection_from_secrets,
    ):
        results.append(result)
        if not arguments.json:
            print(result, flush=True)
    failed = [result for result in results if result.status == "failed"]
    if arguments.json:
        print(json.dumps({"conn_id": arguments.conn_id, "ok": not failed, "checks": [*map(asdict, results)]}))
    elif failed:
        print(f"\n{len(failed)} of {len(results)} checks failed.")
    else:
        print("\nAll is well: the next task can read what a task logs to MLflow.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
