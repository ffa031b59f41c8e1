"""Training code as other people write it, with nothing added but ``@task.mlflow``; the DAG is in dags/."""

from __future__ import annotations

from pathlib import Path

# What each task logs: to its own run, and to its children, by their names.
OWN = {
    "loops_over_models": ("ridge", {"model": "ridge", "rmse": 0.5}),
    "minimizes_an_objective": ("search", {"best_loss": 0.1**2}),
    "logs_trials_as_optuna_does": ("0", {"value": 0.0, "x": "0"}),
    "logs_by_client_as_lightning_does": ("logs_by_client_as_lightning_does", {}),
    "trains_folds_in_forks": ("trains_folds_in_forks", {}),
    "trains_folds_in_loky": ("trains_folds_in_loky", {}),
    "runs_two_programs": ("program", {"rmse": 1.0}),
    "starts_a_run_for_others": ("shared", {"step": "first", "rmse": 0.5}),
    "continues_the_run_of_another": ("continues_the_run_of_another", {}),
    "trains_folds_in_threads": None,  # that of one of the folds
    "fits_under_autolog": None,  # see below
}
CHILDREN = {
    "loops_over_models": {
        "lasso": {"model": "lasso", "rmse": 0.3},
        "forest": {"model": "forest", "rmse": 0.4},
    },
    "logs_trials_as_optuna_does": {"1": {"value": 1.0, "x": "1"}},
    "trains_folds_in_forks": {f"fold {fold}": {"fold": str(fold)} for fold in range(4)},
    "trains_folds_in_loky": {f"fold {fold}": {"fold": str(fold)} for fold in range(3)},
    "runs_two_programs": {"program": {"rmse": 2.0}},
}


def test_every_run_has_its_own_record(run_dag, client, caplog, monkeypatch):
    folder = Path(__file__).parent / "dags"
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(folder))  # dag.test() also searches this folder
    states = run_dag("public_code", folder)
    assert set(states.values()) == {"success"}, states

    experiment = client.get_experiment_by_name("public_code")
    result = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in result} == {"FINISHED"}
    own, children = {}, {}
    for run in result:
        parent, task_id = run.data.tags.get("mlflow.parentRunId"), run.data.tags["airflow.task_id"]
        if not parent:
            own.setdefault(task_id, []).append(run)
        else:
            children.setdefault(task_id, []).append(run)

    def logged(run) -> dict:
        return {**run.data.params, **run.data.metrics}

    [first, second] = own.pop("uses_a_hook_in_a_plain_task")
    assert {first.info.run_name, second.info.run_name} == {"first", "second"}
    for task_id, expected in OWN.items():
        [run] = own[task_id]
        assert not expected or (run.info.run_name, logged(run)) == expected, task_id
        assert {child.data.tags["mlflow.parentRunId"] for child in children.get(task_id, [])} <= {
            run.info.run_id
        }
    for task_id, expected_children in CHILDREN.items():
        assert {child.info.run_name: logged(child) for child in children[task_id]} == expected_children
    assert sorted(child.data.params["alpha"] for child in children["minimizes_an_objective"]) == [
        "0.1",
        "0.2",
        "0.3",
    ]
    of_threads = [*own["trains_folds_in_threads"], *children["trains_folds_in_threads"]]
    assert sorted(run.data.params["fold"] for run in of_threads) == ["0", "1", "2"]
    of_fits = [*own["fits_under_autolog"], *children["fits_under_autolog"]]
    assert {run.info.run_name: run.data.params["alpha"] for run in of_fits} == {
        "alpha 1.0": "1.0",
        "alpha 2.0": "2.0",
    }
    assert client.get_experiment_by_name("study") is None
    assert caplog.text.count("Use @task.mlflow(experiment='study').") == 1
