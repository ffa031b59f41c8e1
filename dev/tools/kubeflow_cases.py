"""What Kubeflow Pipelines plans to test of its MLflow integration, what holds here, and its tests.

.. seealso:: https://github.com/kubeflow/pipelines/blob/master/proposals/12862-mlflow-integration/TestPlan.md
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """A case of that plan.

    :param section: its number there.
    :param what: the case.
    :param here: what holds here.
    :param tests: the tests that show it, by path and name; none where Airflow has no such thing.
    """

    section: str
    what: str
    here: str
    tests: tuple[str, ...] = ()


TASK_RUN = "provider/tests/contract/tracking/test_task_run.py"
REQUESTS = "provider/tests/contract/tracking/test_requests.py"
PROCESSES = "provider/tests/contract/tracking/test_processes.py"
LOOPS = "provider/tests/contract/tracking/test_task_loops.py"
CLIENT = "provider/tests/contract/hooks/test_client.py"
REST = "provider/tests/contract/server/test_rest.py"
LOGIN = "provider/tests/contract/server/test_basic_auth.py"
PAGES = "provider/tests/contract/plugins/test_pages.py"
WORKSPACE = "provider/tests/contract/server/test_workspace_and_registry.py"
STACK = "dev/tests/stack/test_task_mlflow.py"
TRIES = "dev/tests/stack/test_tries.py"
OUTAGES = "dev/tests/faults/test_mlflow.py"

CASES = (
    Case(
        "1.1",
        "no experiment is named",
        "it is the DAG's",
        (f"{TASK_RUN}::test_by_default_it_is_named_after_the_task_in_an_experiment_named_after_the_dag",),
    ),
    Case(
        "1.1",
        "an experiment is named",
        "the run and its parent lie there",
        (f"{TASK_RUN}::test_the_tasks_of_a_dag_run_share_one",),
    ),
    Case("1.1", "an experiment's ID against its name", "experiments have one parameter, the name"),
    Case(
        "1.1",
        "what later steps need to know reaches them",
        "programs that a task starts join its run",
        (f"{PROCESSES}::test_a_process_logs_to_the_run",),
    ),
    Case(
        "1.1",
        "the start is broken off when the parent is there already",
        "the next task uses that parent, and no run stays open",
        (
            f"{TASK_RUN}::test_an_unconfirmed_one_of_a_task_that_was_killed_is_used_by_the_next",
            f"{TASK_RUN}::test_a_task_that_is_interrupted_before_its_block_leaves_no_run_open",
        ),
    ),
    Case("1.1", "a client sets results of the integration", "there is nothing that a client could set"),
    Case(
        "1.1",
        "tags name the pipeline run",
        "and the task instance, its try, and its address",
        (f"{TASK_RUN}::test_its_tags_lead_back_to_airflow",),
    ),
    Case(
        "1.1",
        "links lead from one to the other",
        "both ways, as a person clicks them",
        (
            f"{TASK_RUN}::test_its_buttons_lead_to_mlflow",
            "dev/tests/stack/test_pages.py::test_a_task_instance_has_a_button_to_its_run",
        ),
    ),
    Case(
        "1.1",
        "an experiment is created with a description",
        "with tags, of which the description is one",
        (f"{CLIENT}::test_creates_it_with_its_tags_and_finds_it_again",),
    ),
    Case(
        "1.1",
        "the same pipeline in two experiments",
        "each has a parent of its own",
        (f"{TASK_RUN}::test_another_experiment_has_another",),
    ),
    Case(
        "1.1",
        "an experiment is created by several at once",
        "one comes of it",
        (f"{OUTAGES}::test_one_experiment_comes_of_it",),
    ),
    Case(
        "1.2",
        "the pipeline succeeds",
        "the last child ends the parent as FINISHED",
        (f"{TASK_RUN}::test_it_runs_until_its_last_child_has_ended",),
    ),
    Case(
        "1.2",
        "it fails, or is cancelled",
        "FAILED with the reason, or KILLED",
        (
            f"{TASK_RUN}::test_it_fails_with_a_task_that_is_not_tried_again",
            f"{STACK}::test_a_task_that_is_marked_failed_while_it_runs_was_killed",
        ),
    ),
    Case(
        "1.2",
        "runs are open when it ends, on many pages",
        "all are found and ended",
        (
            f"{REQUESTS}::test_experiments_are_searched_page_by_page",
            f"{STACK}::test_a_task_that_was_killed_for_good_is_closed",
        ),
    ),
    Case(
        "1.2",
        "results are stored",
        "the run's ID is an XCom from its start on",
        (f"{TASK_RUN}::test_the_run_is_active_and_its_id_is_an_xcom",),
    ),
    Case(
        "1.2",
        "MLflow fails while the end is told",
        "a warning in the log; the DAG run's state stays",
        (f"{TASK_RUN}::test_a_server_that_is_away_is_only_logged",),
    ),
    Case(
        "1.3",
        "a failed run is retried",
        "a new run that names the one before, or the same one continues; the parent recovers",
        (
            f"{TASK_RUN}::test_a_retry_starts_a_run_of_its_own_that_names_the_one_before",
            f"{TASK_RUN}::test_a_retry_that_is_to_continue_goes_on_in_the_same_run",
            f"{TASK_RUN}::test_it_fails_with_a_task_and_recovers_with_its_retry",
        ),
    ),
    Case(
        "1.3",
        "a retry of a run that MLflow never saw",
        "the retry has the first run",
        (f"{OUTAGES}::test_a_task_says_within_a_minute_that_the_server_is_down",),
    ),
    Case(
        "1.4",
        "a run is cloned",
        "another DAG run has other runs and another parent",
        (f"{TASK_RUN}::test_another_dag_run_has_another",),
    ),
    Case(
        "1.5",
        "a schedule starts runs",
        "a parent for each DAG run, also where two Airflows have the same schedule",
        (
            f"{TASK_RUN}::test_another_dag_run_has_another",
            "dev/tests/stack/test_two_deployments.py::test_each_sees_to_its_own_runs",
        ),
    ),
    Case(
        "1.6",
        "MLflow cannot be reached at the start",
        "the task fails with what to do, or goes on if told to warn",
        (
            f"{TASK_RUN}::test_the_task_fails_with_what_to_do",
            f"{TASK_RUN}::test_with_warn_the_block_runs_and_what_it_logs_is_thrown_away",
        ),
    ),
    Case("1.6", "the integration is switched off for a run", "a plain `@task` asks nothing of MLflow"),
    Case(
        "1.6",
        "arguments that make no sense",
        "are refused with those that do",
        (f"{TASK_RUN}::test_a_wrong_word_is_refused",),
    ),
    Case(
        "1.6",
        "the end comes, and nothing is known of a run",
        "nothing is done, and nothing fails",
        (f"{TASK_RUN}::test_where_there_are_none_nothing_is_done",),
    ),
    Case(
        "1.6",
        "errors of the client and of the server",
        "only the latter are retried, and not for ever",
        (
            f"{REST}::test_a_refusal_is_final",
            f"{REST}::test_waits_grow_and_end_within_a_minute_by_default",
        ),
    ),
    Case(
        "1.7",
        "what is injected into the process",
        "is there during the task, wins over what was there, and is taken back",
        (f"{TASK_RUN}::test_environment_active_run_and_autologging_are_as_before",),
    ),
    Case(
        "1.7",
        "internal settings stay hidden",
        "no secret is in a log, template, XCom or tag",
        (f"{STACK}::test_the_password_is_nowhere",),
    ),
    Case(
        "1.8",
        "all of it on a cluster",
        "lessons and pipeline, in the stack and in Docker",
        (
            "dev/tests/stack/test_demo.py::test_the_demo_starts_the_stack_from_nothing_and_shows_the_runs",
            "dev/tests/docker/test_direct_s3.py::test_the_lessons_run_green_and_no_artifact_passes_through_mlflow",
        ),
    ),
    Case(
        "1.8",
        "`mlflow.log_metric()` without any setup",
        "goes to the task's run",
        (f"{TASK_RUN}::test_the_run_is_active_and_its_id_is_an_xcom",),
    ),
    Case(
        "1.8",
        "an installation without MLflow is upgraded",
        "the provider imports nothing until a task uses it",
        ("provider/tests/unit/test_imports.py::test_no_module_imports_what_only_a_running_task_needs",),
    ),
    Case(
        "1.8",
        "MLflow comes to an installation that has runs",
        "a lesson runs in an Airflow that was there before",
        ("dev/tests/lifecycle/test_your_own_project.py::test_a_lesson_runs_in_an_airflow_without_astro",),
    ),
    Case(
        "1.8",
        "several tenants",
        "each connection has a workspace of its own",
        (
            f"{WORKSPACE}::test_is_seen_by_no_other_workspace",
            f"{PAGES}::test_of_the_newest_runs_users_see_those_of_dags_that_they_may_read",
        ),
    ),
    Case(
        "1.8",
        "a pipeline run is deleted",
        "its MLflow runs stay",
        (f"{TASK_RUN}::test_a_new_dag_run_of_the_same_id_starts_a_new_run",),
    ),
    Case(
        "1.8",
        "MLflow behind HTTPS",
        "with a CA of one's own",
        (f"{REST}::test_extra_verify_wins_over_the_workers_ca_bundle",),
    ),
    Case(
        "1.9",
        "a loop that runs in parallel",
        "a run for each map index or iteration, under one parent",
        (
            f"{STACK}::test_mapped_tasks_share_one_parent",
            f"{LOOPS}::test_each_iteration_has_a_run_of_its_own_under_one_parent",
        ),
    ),
    Case(
        "1.9",
        "a step that is not run as its result is known",
        "Airflow has no cache; a task that skips itself has a run that is FINISHED",
        (f"{TASK_RUN}::test_a_task_that_skips_itself_is_finished",),
    ),
    Case(
        "1.9",
        "a step without code of its own",
        "any operator may have a run",
        (f"{TRIES}::test_it_is_one_run",),
    ),
    Case(
        "1.10",
        "parameters and metrics are logged",
        "what training logs is there, and what autologging adds",
        (f"{TRIES}::test_it_is_one_run", f"{TASK_RUN}::test_autolog_logs_what_is_fitted"),
    ),
    Case(
        "1.10",
        "more than a hundred parameters",
        "all of them arrive",
        (f"{TASK_RUN}::test_more_parameters_than_a_request_takes_arrive",),
    ),
    Case(
        "1.10",
        "the run's status is the task's",
        "FINISHED, FAILED or KILLED",
        (
            f"{TASK_RUN}::test_a_block_that_raises_has_failed_with_the_reason",
            f"{TASK_RUN}::test_a_block_that_is_interrupted_was_killed",
        ),
    ),
    Case(
        "1.10",
        "MLflow fails, and the task does not",
        'with `on_tracking_error="warn"`',
        (f"{REQUESTS}::test_with_warn_no_refusal_fails_the_task",),
    ),
    Case(
        "1.11",
        "what a person sees of runs, with MLflow and without",
        "pages of the newest runs and of a DAG run's, also where there are none",
        (
            f"{PAGES}::test_a_dag_run_shows_its_runs_to_those_who_may_read_the_dag",
            f"{PAGES}::test_a_dag_run_without_runs_says_how_to_log_one",
        ),
    ),
    Case("1.12", "a service account of Kubernetes", "not yet: a connection holds a login or a token"),
    Case(
        "1.12",
        "a token",
        "is the connection's",
        (f"{REST}::test_is_the_connections_and_not_netrcs",),
    ),
    Case(
        "1.12",
        "user and password",
        "are the connection's, in REST calls and in the `mlflow` package",
        (f"{LOGIN}::test_a_model_is_logged_registered_and_read_back",),
    ),
    Case(
        "1.12",
        "a login is missing or wrong",
        "the error says which",
        (f"{LOGIN}::test_no_other_login_is_let_in",),
    ),
    Case(
        "1.12",
        "a login is refused in the middle",
        "the task goes on if told to warn",
        (f"{REQUESTS}::test_with_warn_no_refusal_fails_the_task",),
    ),
)
