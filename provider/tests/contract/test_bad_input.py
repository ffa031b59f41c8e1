"""Invalid input ends in an error that names it and says what to do."""

from __future__ import annotations

import math
import uuid
from dataclasses import replace

import mlflow
import pytest

from mlflow_provider import task_run
from mlflow_provider.decorators.mlflow import MLflowDecoratedOperator
from mlflow_provider.exceptions import MLflowAPIError, MLflowNotFoundError, MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.hooks.pyfunc import MLflowPyfuncHook
from mlflow_provider.operators.registry import (
    CreateRegisteredModelOperator,
    GetModelVersionByAliasOperator,
    GetModelVersionOperator,
    GetRegisteredModelOperator,
    RegisterModelOperator,
)
from mlflow_provider.triggers.registry import _get_versions
from task_log import exceptions_in_log
from tries import Try

LONG = "x" * 10_000
UNICODE = "Häuser 🏠 \"quoted\" 'twice' %s {name} <b>"
ELSEWHERE = "correct the name or ID, or the connection if it is on another server"


@pytest.fixture
def track(name, mlflow_default):
    """A function that runs a block in a tracked task and returns its run from MLflow."""

    def track(block=lambda: None, **arguments):
        a_try = Try(f"manual__{uuid.uuid4().hex}")
        with task_run(context=a_try.context, **{"experiment": name} | arguments) as run:
            block()
        return MLflowClientHook().get_run(run.info.run_id)

    return track


class TestNames:
    @pytest.mark.parametrize("long_or_not", [UNICODE, LONG], ids=["unicode", "10,000 characters"])
    def test_of_runs_and_tags_are_kept(self, track, long_or_not):
        run = track(run_name=long_or_not, tags={"text": long_or_not})

        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        kept = min(len(long_or_not), 8000)  # MLflow's own limit
        assert tags["text"][:kept] == long_or_not[:kept]
        assert run["info"]["run_name"][:kept] == long_or_not[:kept]

    def test_of_experiments_and_models_may_be_unicode(self, hook, execute, name):
        unicode = f"{UNICODE} {name}"

        assert hook.get_or_create_experiment(unicode) == hook.get_or_create_experiment(unicode)
        assert execute(CreateRegisteredModelOperator, name=unicode)["registered_model"]["name"] == unicode

    def test_of_experiments_and_runs_may_be_numbers_as_a_native_template_renders_them(self, hook):
        number, a_try = uuid.uuid4().int, Try("manual__1")

        def nothing() -> None:
            pass

        train = MLflowDecoratedOperator(
            task_id="train",
            experiment=number,
            run_name=number,
            python_callable=nothing,
            op_args=(),
            op_kwargs={},
        )

        train.execute(a_try.context)

        run = hook.get_run(a_try.xcoms["mlflow_run_id"])
        assert run["info"]["run_name"] == str(number)

    def test_of_models_may_have_both_kinds_of_quotes(self, execute, registered_model, name):
        for quoted in (f'{name} it\'s "axb"', f'{name} it\'s "a_b"'):
            model = replace(registered_model, name=quoted)
            model.create()
            model.create_version()

        found = model.hook.find_model_version(quoted, "s3://bucket/housing")
        versions = _get_versions(model.hook, {"name": quoted}, None, None)

        assert found == {"model_version": versions[0]}
        assert [each["name"] for each in versions] == [quoted]

    def test_that_are_too_long_are_one_short_error(self, track, execute):
        with pytest.raises(MLflowAPIError, match="'name' exceeds the maximum length of 500") as experiment:
            track(experiment=LONG)
        with pytest.raises(MLflowNotFoundError) as model:
            execute(GetRegisteredModelOperator, name=f"{LONG}{uuid.uuid4().hex}")

        assert len(str(experiment.value)) < 300
        assert exceptions_in_log(experiment.value) == [str(experiment.value)]
        assert len(str(model.value)) < 1500

    def test_that_mlflow_forbids_are_reported(self, execute):
        with pytest.raises(MLflowAPIError, match="Names cannot contain"):
            execute(CreateRegisteredModelOperator, name="houses/ames")


class TestTags:
    def test_that_are_not_strings_become_strings(self, hook, execute, track, name):
        tags = {"folds": 5, "none": None, "list": [1, 2], 7: True}
        texts = {"folds": "5", "none": "None", "list": "[1, 2]", "7": "True"}

        run, model = track(tags=tags), execute(CreateRegisteredModelOperator, name=name, tags=tags)

        for found in (run["data"]["tags"], model["registered_model"]["tags"]):
            assert texts.items() <= {tag["key"]: tag["value"] for tag in found}.items()

    @pytest.mark.parametrize("tags", ["data=housing", ["data"], 5, [{"data": "housing"}]], ids=repr)
    def test_that_are_not_a_mapping_are_shown(self, execute, track, name, tags):
        """A template renders such tags in a DAG without render_template_as_native_obj."""
        for attempt in (
            lambda: execute(CreateRegisteredModelOperator, name=name, tags=tags),
            lambda: track(tags=tags),
        ):
            with pytest.raises(ValueError, match="xpected a mapping of tag names to values") as raised:
                attempt()
            assert str(tags)[:20] in str(raised.value)


def test_metrics_that_are_not_numbers_arrive_and_fail_no_task(track):
    def log() -> None:
        mlflow.log_metrics({"nan": math.nan, "more": math.inf, "less": -math.inf})

    run = track(log)

    assert run["info"]["status"] == "FINISHED"
    result = {metric["key"]: float(metric["value"]) for metric in run["data"]["metrics"]}
    assert math.isnan(result["nan"])
    # MLflow's databases store infinity as the largest number.
    assert (result["more"], result["less"]) >= (1.7e308, -math.inf)
    assert result["less"] <= -1.7e308


class TestModels:
    """Models that do not exist, are deleted, or are on another server."""

    @pytest.fixture
    def download(self, mlflow_default, tmp_path):
        def download(model_uri):
            with pytest.raises(MLflowProviderError) as raised:
                MLflowPyfuncHook().download_model(model_uri, tmp_path)
            assert exceptions_in_log(raised.value) == [str(raised.value)]
            return str(raised.value)

        return download

    def test_a_deleted_version(self, execute, model, download):
        model.delete_version("2")

        message = download(f"models:/{model.name}/2")

        assert message.startswith(f"Connection 'mlflow_default', downloading model models:/{model.name}/2: ")
        assert message.endswith(f"not found; {ELSEWHERE}.")
        with pytest.raises(MLflowNotFoundError, match=f"version=2.* not found; {ELSEWHERE} \\(GET "):
            execute(GetModelVersionOperator, name=model.name, version=2)

    def test_a_missing_alias(self, execute, model, download):
        message = f"alias nobody not found; {ELSEWHERE}"

        assert download(f"models:/{model.name}@nobody").endswith(f"{message}.")
        with pytest.raises(MLflowNotFoundError, match=rf"{message} \(GET "):
            execute(GetModelVersionByAliasOperator, name=model.name, alias="nobody")

    def test_a_run_or_a_model_of_another_server(self, download, execute, name):
        missing = uuid.uuid4().hex

        for model_uri in (f"runs:/{missing}/model", f"models:/m-{missing}"):
            assert download(model_uri).endswith(f"not found; {ELSEWHERE}.")
        with pytest.raises(
            MLflowNotFoundError, match=f"Run with id={missing} not found; {ELSEWHERE} \\(GET "
        ):
            execute(RegisterModelOperator, model_uri=f"runs:/{missing}/model", name=name)

    @pytest.mark.parametrize("uri", ["nonsense", None])
    def test_a_uri_that_is_not_a_model(self, execute, name, uri):
        with pytest.raises(MLflowProviderError, match=f"Invalid model version source: '{uri}'"):
            execute(RegisterModelOperator, model_uri=uri, name=name)


def test_a_login_of_any_letters_and_length_is_sent(mlflow_server, airflow_connection):
    airflow_connection(host=mlflow_server.url, login="ä" * 10_000, password="🏠" * 1000)

    assert MLflowClientHook().test_connection()[0]
