"""``@task.mlflow``: a function that runs inside the MLflow run of its task instance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DecoratedOperator, task_decorator_factory
from airflow.providers.standard.operators.python import PythonOperator

from mlflow_provider.exceptions import check_choice
from mlflow_provider.links.mlflow import MLflowExperimentLink, MLflowRunLink
from mlflow_provider.tracking.task_run import DEFAULT_CONN_ID, OnTrackingError, Retry, task_run

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskDecorator
    from airflow.sdk import Context


class MLflowDecoratedOperator(DecoratedOperator, PythonOperator):
    """Call a function inside :func:`mlflow_provider.task_run`.

    :param mlflow_conn_id: connection of type ``mlflow`` (templated).
    :param experiment: name of the experiment, by default the DAG ID (templated).
    :param run_name: name of the run, by default the task ID (templated).
    :param tags: additional tags of the run (templated).
    :param nested: create the run under a parent run, which the DAG run has once per experiment.
    :param autolog: call ``mlflow.autolog``, with these arguments if it is a mapping.
    :param log_system_metrics: log the use of CPU, memory and network to the run; needs ``psutil``.
    :param retry: start a ``new`` run when a failed task is retried, or ``continue`` the previous one.
    :param on_tracking_error: ``fail`` the task if MLflow does not respond, or ``warn`` and run it untracked.
    """

    template_fields: Sequence[str] = (
        *PythonOperator.template_fields,
        "mlflow_conn_id",
        "experiment",
        "run_name",
        "tags",
    )
    operator_extra_links = (MLflowRunLink(), MLflowExperimentLink())
    custom_operator_name = "@task.mlflow"
    ui_color = "#e0f2fe"

    def __init__(
        self,
        *,
        mlflow_conn_id: str = DEFAULT_CONN_ID,
        experiment: str | None = None,
        run_name: str | None = None,
        tags: dict[str, Any] | None = None,  # templates are rendered in a dict only
        nested: bool = False,
        autolog: bool | Mapping[str, Any] = False,
        log_system_metrics: bool = False,
        retry: Retry = "new",
        on_tracking_error: OnTrackingError = "fail",
        python_callable: Callable[..., Any],
        op_args: Sequence[Any],
        op_kwargs: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        call: dict[str, Any] = {
            "python_callable": python_callable,
            "op_args": op_args,
            "op_kwargs": op_kwargs,
        }
        super().__init__(kwargs_to_upstream=call, **call, **kwargs)
        check_choice("retry", retry, Retry)
        check_choice("on_tracking_error", on_tracking_error, OnTrackingError)
        self.mlflow_conn_id = mlflow_conn_id
        self.experiment = experiment
        self.run_name = run_name
        self.tags = tags
        self.nested = nested
        self.autolog = autolog
        self.log_system_metrics = log_system_metrics
        self.retry = retry
        self.on_tracking_error = on_tracking_error

    def execute(self, context: Context) -> Any:
        with task_run(
            mlflow_conn_id=self.mlflow_conn_id,
            # A template may render them to numbers.
            experiment=None if self.experiment is None else str(self.experiment),
            run_name=None if self.run_name is None else str(self.run_name),
            tags=self.tags,
            nested=self.nested,
            autolog=self.autolog,
            log_system_metrics=self.log_system_metrics,
            retry=self.retry,
            on_tracking_error=self.on_tracking_error,
            context=context,
        ):
            return super().execute(context)


def mlflow_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """Turn a function into a task that runs inside an MLflow run. DAGs use it as ``@task.mlflow``.

    .. code-block:: python

        @task.mlflow(experiment="Housing", autolog=True)
        def train(alpha: float):
            Ridge(alpha).fit(features, prices)


        train.expand(alpha=[0.1, 1.0, 10.0])

    :param python_callable: the function.
    :param multiple_outputs: push each value of a returned dict as a separate XCom.
    :param kwargs: parameters of :class:`MLflowDecoratedOperator` and of any operator.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=MLflowDecoratedOperator,
        **kwargs,
    )
