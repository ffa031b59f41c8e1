"""The rules for runs that the processes of a tracked task start; see the provider's README."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TASK = """\
import os, signal, subprocess, sys
sys.path[:0] = {path!r}
import mlflow
from mlflow_provider import task_run
from tries import Try


def log(fold):
    mlflow.log_metric(f"rmse_{{fold}}", fold)


def on_term(*_):
    pass  # as Airflow's handler does in a process that a task has forked


def main():
    on_term.__module__ = "airflow.sdk.execution_time.task_runner"
    signal.signal(signal.SIGTERM, on_term)
    with task_run(context=Try({run_id!r}).context, experiment={experiment!r}) as run:
        {block}
        print(mlflow.get_run(run.info.run_id).info.status)


if __name__ == "__main__":
    main()
"""

FORK = """
        ready, starts = os.pipe()
        child = os.fork()
        if not child:
            os.write(starts, b"1")
            signal.pause()
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        log(0), log(1)
"""
# Python announces a signal only if it has a handler; without detaching, the parent's watcher also gets it.
OWN_HANDLER = """
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))"""
FORK_THAT_RETURNS = """
        if not os.fork():
            sys.exit(log(0))
        os.wait()
        log(1)
"""
# A pool ends its processes with SIGTERM.
POOL = """
        import multiprocessing
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(log, range(2))
"""


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(FORK, id="fork"),
        pytest.param(OWN_HANDLER + FORK, id="fork with a handler of its own"),
        pytest.param(FORK_THAT_RETURNS, id="fork that leaves the block"),
        pytest.param(POOL, id="Pool"),
    ],
)
def test_a_forked_process_does_not_end_the_run(a_try, runs, experiment, tmp_path, block):
    task = tmp_path / "task.py"
    code = TASK.format(path=sys.path, run_id=a_try.run_id, experiment=experiment, block=block.strip())
    task.write_text(code)
    process = subprocess.run(
        [sys.executable, task], stdout=subprocess.PIPE, text=True, timeout=300, check=True
    )

    assert process.stdout.split()[-1] == "RUNNING"
    [run] = runs()
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"rmse_0": 0.0, "rmse_1": 1.0})


# What training code does, by the columns of the table in the provider's README, and one that all places have.
CODE = {
    "logs without a run": "mlflow.log_metric('a', 1)",
    "first `start_run()`": "with mlflow.start_run(run_name='a'): mlflow.log_metric('a', 1)",
    "second `start_run()`": "with mlflow.start_run(run_name='a'): pass\n"
    "with mlflow.start_run(run_name='b'): mlflow.log_metric('a', 1)",
    "`start_run(nested=True)`": "with mlflow.start_run(run_name='a', nested=True): mlflow.log_metric('a', 1)",
    "continues": "with mlflow.start_run(run_id=os.environ['OTHER']): mlflow.log_metric('a', 1)",
}
# Where it does that, by the rows.
PLACES = {
    "the function": "train(code)",
    "a thread": "thread = threading.Thread(target=train, args=(code,)); thread.start(); thread.join()",
    "a forked process, e.g. of a `multiprocessing.Pool`": "run_process('fork', code)",
    "a spawned process": "run_process('spawn', code)",
    "a worker of `joblib` (loky)": "joblib.Parallel(2, 'loky')([joblib.delayed(train)(code)] * 2); "
    "joblib.externals.loky.get_reusable_executor().shutdown()",
    "the first program": "run_program(code)",
    "a later program": "run_program('mlflow.start_run()'); run_program(code)",
}
RULES = """\
import multiprocessing, os, subprocess, sys, threading
sys.path[:0] = {path!r}
import joblib


def train(code):
    import mlflow, os
    exec(code)


def run_process(method, code):
    process = multiprocessing.get_context(method).Process(target=train, args=(code,))
    process.start()
    process.join()


def run_program(code):
    subprocess.run([sys.executable, "-c", "import mlflow, os\\n" + code], check=True)


def main():
    import mlflow
    from mlflow_provider import task_run
    from tries import Try

    for task_id, code in {code!r}.items():
        with task_run(context=Try({run_id!r}, task_id).context, experiment={experiment!r}) as run:
            other = mlflow.MlflowClient().create_run(run.info.experiment_id, run_name="other " + task_id)
            os.environ["OTHER"] = other.info.run_id
            {place}


if __name__ == "__main__":
    main()
"""


def _rules_of_readme() -> dict[str, dict[str, str]]:
    """The cells of the table in the provider's README, by row and column."""
    readme = Path(__file__).parents[3] / "README.md"
    section = readme.read_text("utf-8").partition("## Runs that your code starts")[2].partition("\n## ")[0]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    (_, *columns), *rows = table
    return {place: dict(zip(columns, rules, strict=True)) for place, *rules in rows}


PARENT = "mlflow.parentRunId"
RULES_OF_README = _rules_of_readme()


@pytest.mark.parametrize("place", PLACES)
def test_where_a_run_is_logged_follows_the_table(a_try, runs, experiment, tmp_path, place):
    script = tmp_path / "task.py"
    fields = {"path": sys.path, "code": CODE, "run_id": a_try.run_id, "experiment": experiment}
    script.write_text(RULES.format(place=PLACES[place], **fields))
    subprocess.run([sys.executable, script], timeout=600, check=True)

    def where(code: str) -> set[str]:
        of_task = [run for run in result if run.data.tags.get("airflow.task_id") == code]
        [task_run] = [run for run in of_task if "airflow.task_instance" in run.data.tags]
        [other] = [run for run in result if run.info.run_name == f"other {code}"]
        assert {run.info.status for run in of_task} == {"FINISHED"}
        parents = {"a child": task_run.info.run_id, "the task's run": None}
        return {
            "another run"
            if run is other
            else next(name for name, parent in parents.items() if run.data.tags.get(PARENT) == parent)
            for run in (*of_task, other)
            if run.data.metrics
        }

    result = runs()
    rules = {**RULES_OF_README[place], "continues": "another run"}
    assert {code: where(code) for code in CODE} == {code: {rule} for code, rule in rules.items()}


def test_the_table_has_a_test_for_each_row():
    assert list(RULES_OF_README) == list(PLACES)
