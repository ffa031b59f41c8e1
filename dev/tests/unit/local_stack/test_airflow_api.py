"""The client for Airflow's REST API."""

from local_stack.airflow_api import AirflowApi


def test_lists_are_complete_although_airflow_returns_at_most_100_entries(monkeypatch):
    dags = [
        {"relative_fileloc": f"{number}.py", "last_parsed_time": "2026-01-01T00:00:00Z"}
        for number in range(250)
    ]

    def call(api, method, path, params):
        entries = dags if path.endswith("/dags") else []
        page = entries[params["offset"] :][: min(params["limit"], 100)]
        return {path.rpartition("/")[2]: page, "import_errors": [], "total_entries": len(entries)}

    monkeypatch.setattr(AirflowApi, "call", call)

    assert len(AirflowApi(8080).parsed()) == 250
