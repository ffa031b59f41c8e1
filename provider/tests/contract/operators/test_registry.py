"""Every registry operator, against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlflow
import pytest

from mlflow_provider.exceptions import MLflowAlreadyExistsError, MLflowAPIError, MLflowNotFoundError
from mlflow_provider.hooks import client
from mlflow_provider.operators.experiment import GetOrCreateExperimentOperator
from mlflow_provider.operators.registry import (
    CopyModelVersionOperator,
    CreateModelVersionOperator,
    CreateRegisteredModelOperator,
    DeleteModelVersionOperator,
    DeleteRegisteredModelAliasOperator,
    DeleteRegisteredModelOperator,
    GetLatestModelVersionsOperator,
    GetModelVersionByAliasOperator,
    GetModelVersionOperator,
    GetRegisteredModelOperator,
    RegisterModelOperator,
    SearchModelVersionsOperator,
    SearchRegisteredModelsOperator,
    SetModelVersionTagOperator,
    SetRegisteredModelAliasOperator,
    SetRegisteredModelTagOperator,
    TransitionModelVersionStageOperator,
    UpdateModelVersionOperator,
    UpdateRegisteredModelOperator,
)
from mlflow_provider.server import replica
from mlflow_proxy import Fault
from tries import Try

if TYPE_CHECKING:
    from mlflow_provider.hooks.client import MLflowClientHook

SOURCE = "s3://bucket/housing"


def version_xcoms(hook: MLflowClientHook, name: str, version: str) -> dict[str, str]:
    """The XComs of an operator that returns a model version."""
    return {
        "name": name,
        "version": version,
        "model_uri": f"models:/{name}/{version}",
        "mlflow_model_version_link": hook.connection.page(f"models/{name}/versions/{version}"),
    }


def without_own_tag(created: dict[str, Any]) -> None:
    """Remove the tag of the operator that created a registered model or a version."""
    created["tags"] = [tag for tag in created["tags"] if tag["key"] != "airflow.created_by"]


@pytest.fixture(autouse=True)
def no_replica(monkeypatch):
    """What MLflow does not find does not exist."""
    monkeypatch.setattr(replica, "MAX_LAG_SECONDS", 0)
    monkeypatch.setattr(client, "SETTLING_SECONDS", 0)


@pytest.fixture
def model(execute, name):
    """The name of a registered model without versions."""
    execute(CreateRegisteredModelOperator, name=name)
    return name


@pytest.fixture
def two_versions(execute, model, xcoms):
    """The name of a registered model with two versions."""
    for number in (1, 2):
        execute(CreateModelVersionOperator, name=model, source=f"{SOURCE}/{number}")
    xcoms.clear()
    return model


class TestRegisteredModels:
    @pytest.mark.parametrize("tags", [{"data": "housing"}, [{"key": "data", "value": "housing"}]])
    def test_a_model_is_created_with_its_tags_and_description(self, execute, name, tags):
        created = execute(CreateRegisteredModelOperator, name=name, tags=tags, description="Prices")

        expected = {"name": name, "description": "Prices", "tags": [{"key": "data", "value": "housing"}]}
        assert execute(GetRegisteredModelOperator, name=name) == created
        without_own_tag(created["registered_model"])
        assert created["registered_model"].items() >= expected.items()

    def test_creating_twice_fails_or_skips(self, execute, model):
        existing = execute(CreateRegisteredModelOperator, name=model, description="other", if_exists="skip")

        assert existing == execute(GetRegisteredModelOperator, name=model)
        assert "description" not in existing["registered_model"]
        with pytest.raises(MLflowAlreadyExistsError, match=model) as error:
            execute(CreateRegisteredModelOperator, name=model)
        assert error.value.error_code == "RESOURCE_ALREADY_EXISTS"

    def test_search_filters_sorts_and_limits(self, execute, name):
        for suffix in "abc":
            execute(CreateRegisteredModelOperator, name=f"{name}-{suffix}")

        answer = execute(
            SearchRegisteredModelsOperator,
            filter_string=f"name LIKE '{name}-%'",
            order_by=["name DESC"],
            max_results=2,
        )

        assert [model["name"] for model in answer["registered_models"]] == [f"{name}-c", f"{name}-b"]

    def test_the_description_and_a_tag_are_replaced(self, execute, model):
        for folds in (3, 5):
            execute(SetRegisteredModelTagOperator, name=model, key="folds", value=folds)
        updated = execute(UpdateRegisteredModelOperator, name=model, description="Prices in Ames")

        stored = execute(GetRegisteredModelOperator, name=model)["registered_model"]
        without_own_tag(stored)
        assert updated["registered_model"]["description"] == stored["description"] == "Prices in Ames"
        assert stored["tags"] == [{"key": "folds", "value": "5"}]

    def test_a_deleted_model_is_missing(self, execute, two_versions):
        assert execute(DeleteRegisteredModelOperator, name=two_versions) is None

        assert execute(GetRegisteredModelOperator, name=two_versions, ignore_if_missing=True) is None


class TestNewVersions:
    def test_a_version_is_created_with_all_its_properties(self, execute, hook, model, logged_model, xcoms):
        properties = {
            "name": model,
            "source": "s3://bucket/model",
            "run_id": logged_model.run_id,
            "run_link": "http://elsewhere/run",
            "description": "The first",
        }
        created = execute(CreateModelVersionOperator, **properties, tags={"validated": "yes"})

        expected = {**properties, "version": "1", "tags": [{"key": "validated", "value": "yes"}]}
        without_own_tag(created["model_version"])
        assert created["model_version"].items() >= expected.items()
        assert xcoms == version_xcoms(hook, model, "1")

    @pytest.mark.parametrize("source", ["uri", "run_uri", "artifact_uri"])
    def test_a_version_of_a_logged_model_can_be_loaded(
        self, execute, hook, model, logged_model, predict, xcoms, source
    ):
        artifact_uri = f"{hook.get_run(logged_model.run_id)['info']['artifact_uri']}/model"
        # As made by 1.1.0. It cannot be loaded, and is not the version of the logged model.
        params = {"name": model, "source": artifact_uri, "run_id": logged_model.run_id}
        hook.call("POST", "model-versions/create", params)
        uri = artifact_uri if source == "artifact_uri" else getattr(logged_model, source)

        created = execute(CreateModelVersionOperator, name=model, source=uri, if_exists="skip")

        assert created["model_version"]["version"] == "2"
        assert created["model_version"]["run_id"] == logged_model.run_id
        assert predict(hook.connection, xcoms["model_uri"]) == pytest.approx(logged_model.predictions)
        for model_uri in (logged_model.run_uri, artifact_uri):
            again = execute(RegisterModelOperator, name=model, model_uri=model_uri)
            assert again["model_version"]["version"] == "2"

    @pytest.mark.parametrize("is_run_uri", [True, False])
    def test_a_version_of_a_model_among_a_runs_artifacts_can_be_loaded(
        self, execute, hook, model, logged_model, predict, xcoms, is_run_uri, tmp_path
    ):
        with hook.tracking() as client:
            folder = mlflow.artifacts.download_artifacts(logged_model.uri, dst_path=str(tmp_path))
            client.log_artifacts(logged_model.run_id, folder, "saved")
        artifacts = hook.get_run(logged_model.run_id)["info"]["artifact_uri"]
        source = f"runs:/{logged_model.run_id}/saved" if is_run_uri else f"{artifacts}/saved"

        created = execute(CreateModelVersionOperator, name=model, source=source)

        assert created["model_version"]["source"] == f"{artifacts}/saved"
        assert predict(hook.connection, xcoms["model_uri"]) == pytest.approx(logged_model.predictions)

    def test_a_version_without_a_model_is_an_error_or_a_warning(
        self, execute, hook, model, logged_model, caplog, capfd
    ):
        with pytest.raises(MLflowNotFoundError, match="has no model 'plan'"):
            execute(CreateModelVersionOperator, name=model, source=f"runs:/{logged_model.run_id}/plan")
        source = f"{hook.get_run(logged_model.run_id)['info']['artifact_uri']}/plan"
        execute(CreateModelVersionOperator, name=model, source=source)

        logged = caplog.text + "".join(capfd.readouterr())  # in Airflow 3.1 by logging, later by structlog
        assert f"No MLmodel file in {source}" in logged

    def test_a_source_in_a_run_of_another_server_is_kept(self, execute, model):
        source = f"s3://elsewhere/1/{'0' * 32}/artifacts/model"

        created = execute(CreateModelVersionOperator, name=model, source=source)

        assert created["model_version"]["source"] == source

    def test_a_version_of_a_missing_model_is_an_error(self, execute, name):
        with pytest.raises(MLflowNotFoundError, match=name):
            execute(CreateModelVersionOperator, name=name, source=SOURCE)

    @pytest.mark.parametrize("uri", ["run_uri", "uri"])
    def test_a_logged_model_is_registered_and_can_be_loaded(
        self, execute, hook, name, logged_model, predict, xcoms, uri
    ):
        uri = getattr(logged_model, uri)
        answer = execute(RegisterModelOperator, model_uri=uri, name=name, tags={"validated": "yes"})

        expected = {
            "version": "1",
            "run_id": logged_model.run_id,
            "tags": [{"key": "validated", "value": "yes"}],
        }
        without_own_tag(answer["model_version"])
        assert answer["model_version"].items() >= expected.items()
        assert xcoms == version_xcoms(hook, name, "1")
        linked = hook.call("GET", f"logged-models/{logged_model.model_id}")["model"]["info"]["tags"]
        assert any(tag["key"] == "mlflow.modelVersions" and name in tag["value"] for tag in linked)
        assert predict(hook.connection, xcoms["model_uri"]) == pytest.approx(logged_model.predictions)

    @pytest.mark.parametrize("exists", [False, True])
    def test_a_registered_version_gets_its_description_and_alias(self, execute, name, logged_model, exists):
        register = {"model_uri": logged_model.uri, "name": name}
        if exists:
            execute(RegisterModelOperator, **register)
        tags = [{"key": "folds", "value": 5}]

        execute(RegisterModelOperator, **register, tags=tags, description="Linear", alias="new")

        answer = execute(GetModelVersionByAliasOperator, name=name, alias="new")
        without_own_tag(answer["model_version"])
        expected = {"version": "1", "description": "Linear"}
        if not exists:
            expected["tags"] = [{"key": "folds", "value": "5"}]
        assert answer["model_version"].items() >= expected.items()

    @pytest.mark.parametrize("model_uri", [f"runs:/{'0' * 32}/model", "models:/m-0", "s3://bucket"])
    def test_a_version_that_mlflow_rejects_leaves_no_model(self, execute, name, model_uri):
        with pytest.raises(MLflowAPIError):
            execute(RegisterModelOperator, model_uri=model_uri, name=name)

        assert execute(GetRegisteredModelOperator, name=name, ignore_if_missing=True) is None

    def test_a_copy_is_a_version_of_the_other_model(self, execute, hook, name, logged_model, predict, xcoms):
        execute(RegisterModelOperator, model_uri=logged_model.uri, name=name)
        production = f"{name}-production"

        answer = execute(CopyModelVersionOperator, name=name, version=1, to_name=production)

        assert answer["model_version"]["name"] == production
        assert answer["model_version"]["source"] == f"models:/{name}/1"
        assert xcoms["model_uri"] == f"models:/{production}/1"
        assert predict(hook.connection, xcoms["model_uri"]) == pytest.approx(logged_model.predictions)


class TestExistingVersions:
    @pytest.mark.parametrize(
        ("operator_class", "default"),
        [
            (CreateModelVersionOperator, "new"),
            (RegisterModelOperator, "skip"),
            (CopyModelVersionOperator, "skip"),
        ],
    )
    def test_a_version_from_the_same_model_is_repeated_skipped_or_an_error(
        self, execute, two_versions, logged_model, xcoms, operator_class, default
    ):
        target = f"{two_versions}-target"
        execute(CreateRegisteredModelOperator, name=target)
        arguments = {
            CreateModelVersionOperator: {"name": target, "source": SOURCE},
            RegisterModelOperator: {"name": target, "model_uri": logged_model.uri},
            CopyModelVersionOperator: {"name": two_versions, "version": 1, "to_name": target},
        }[operator_class]

        def create(**if_exists: str) -> str:
            return execute(operator_class, **arguments, **if_exists)["model_version"]["version"]

        assert [create(), create(if_exists="skip"), create(if_exists="new")] == ["1", "1", "2"]
        assert create() == xcoms["version"] == ("3" if default == "new" else "2")
        with pytest.raises(MLflowAlreadyExistsError, match=rf"is already version \d of '{target}'") as error:
            create(if_exists="fail")
        assert error.value.error_code == "RESOURCE_ALREADY_EXISTS"

    def test_skip_creates_a_version_from_another_source(self, execute, two_versions):
        arguments = {"name": two_versions, "if_exists": "skip"}

        created = [
            execute(CreateModelVersionOperator, **arguments, source=f"{SOURCE}/{number}") for number in (1, 3)
        ]

        assert [answer["model_version"]["version"] for answer in created] == ["1", "3"]

    def test_both_uris_of_a_logged_model_mean_the_same(self, execute, name, logged_model):
        answers = [
            execute(RegisterModelOperator, model_uri=uri, name=name)
            for uri in (logged_model.run_uri, logged_model.uri)
        ]

        assert [answer["model_version"]["version"] for answer in answers] == ["1", "1"]


class TestLostResponses:
    """MLflow answers 503 after it has done what was requested."""

    @pytest.fixture(params=["by the operator", "by the task"])
    def retry(self, request, mlflow_proxy, airflow_connection, xcoms):
        """A function that executes an operator until it succeeds, while responses to a request are lost."""
        is_retried = request.param == "by the task"
        if is_retried:
            airflow_connection(host=mlflow_proxy.url, extra={"retry_timeout": 0})

        def retry(lost: str, operator_class: type, **arguments: Any) -> Any:
            mlflow_proxy.faults.append(Fault(lost, 503, times=1, arrives=0))
            for try_number in (1, 2):
                a_try = Try(f"manual__{arguments['name']}", try_number=try_number, xcoms=xcoms)
                context = a_try.context
                context["ti"].task = operator_class(task_id="task", **arguments)
                try:
                    return context["ti"].task.execute(context)
                except MLflowAPIError:
                    assert is_retried
            raise AssertionError

        return retry

    def test_a_registered_model_is_created_once(self, retry, name):
        created = retry("registered-models/create", CreateRegisteredModelOperator, name=name)

        assert created["registered_model"]["name"] == name

    @pytest.mark.parametrize("if_exists", ["new", "fail"])
    @pytest.mark.parametrize(
        "operator_class", [CreateModelVersionOperator, RegisterModelOperator, CopyModelVersionOperator]
    )
    def test_a_version_is_created_once(
        self, retry, hook, name, logged_model, operator_class, if_exists, xcoms
    ):
        hook.create_registered_model(name)
        target = f"{name}-copy" if operator_class is CopyModelVersionOperator else name
        if target != name:
            hook.call("POST", "model-versions/create", {"name": name, "source": SOURCE})
        arguments = {
            CreateModelVersionOperator: {"source": SOURCE},
            RegisterModelOperator: {"model_uri": logged_model.uri},
            CopyModelVersionOperator: {"version": 1, "to_name": target},
        }[operator_class]

        answer = retry("model-versions/create", operator_class, name=name, if_exists=if_exists, **arguments)

        assert answer["model_version"]["version"] == xcoms["version"] == "1"
        assert len(hook.search_versions(target, "version_number > 0")) == 1
        assert xcoms["name"] == target

    def test_a_deletion_succeeds(self, execute, mlflow_proxy, hook, name):
        hook.create_registered_model(name)
        hook.call("POST", "model-versions/create", {"name": name, "source": SOURCE})
        lost = [Fault(f"DELETE {path}", 503, times=1, arrives=0) for path in ("model-versions", "registered")]
        mlflow_proxy.faults += lost

        execute(DeleteModelVersionOperator, name=name, version=1)
        execute(DeleteRegisteredModelOperator, name=name)

        assert not any(fault.times for fault in lost)
        assert hook.search("registered-models", f"name = '{name}'") == []

    def test_a_cleared_task_creates_another_version(self, execute, hook, name):
        hook.create_registered_model(name)
        first, cleared = Try(name, max_tries=2), Try(name, try_number=2, max_tries=3)

        answers = [
            execute(CreateModelVersionOperator, each, name=name, source=SOURCE) for each in (first, cleared)
        ]

        assert [answer["model_version"]["version"] for answer in answers] == ["1", "2"]


def test_a_login_that_may_not_create_models_uses_the_existing_one(
    mlflow_default, mlflow_proxy, execute, hook, name, logged_model
):
    hook.create_registered_model(name)
    mlflow_proxy.faults.append(Fault("POST registered-models/create", 403, "Permission denied"))

    execute(CreateRegisteredModelOperator, name=name, if_exists="skip")
    execute(RegisterModelOperator, name=name, model_uri=logged_model.uri)

    problem = f"lacks the permission USE on the workspace of registered model '{name}-2'"
    with pytest.raises(MLflowAPIError, match=problem):
        execute(CreateRegisteredModelOperator, name=f"{name}-2", if_exists="skip")


class TestModelVersions:
    def test_get_returns_the_version(self, execute, hook, two_versions, xcoms):
        answer = execute(GetModelVersionOperator, name=two_versions, version=2)

        assert answer["model_version"]["source"] == f"{SOURCE}/2"
        assert xcoms == version_xcoms(hook, two_versions, "2")

    def test_search_filters_and_sorts(self, execute, two_versions):
        answer = execute(
            SearchModelVersionsOperator,
            filter_string=f"name = '{two_versions}'",
            order_by=["version_number DESC"],
        )

        assert [version["version"] for version in answer["model_versions"]] == ["2", "1"]

    def test_the_description_and_a_tag_of_one_version_change(self, execute, two_versions):
        execute(SetModelVersionTagOperator, name=two_versions, version="1", key="folds", value=5)
        updated = execute(UpdateModelVersionOperator, name=two_versions, version=1, description="Older")

        first, second = (
            execute(GetModelVersionOperator, name=two_versions, version=version)["model_version"]
            for version in (1, 2)
        )
        assert updated["model_version"]["description"] == first["description"] == "Older"
        for version in (first, second):
            without_own_tag(version)
        assert first["tags"] == [{"key": "folds", "value": "5"}]
        assert not second["tags"]
        assert not second.get("description")

    def test_delete_removes_one_version(self, execute, two_versions):
        assert execute(DeleteModelVersionOperator, name=two_versions, version=1) is None

        answer = execute(SearchModelVersionsOperator, filter_string=f"name = '{two_versions}'")
        assert [version["version"] for version in answer["model_versions"]] == ["2"]


class TestAliases:
    def test_an_alias_moves_until_it_is_deleted(self, execute, two_versions, xcoms):
        champion = {"name": two_versions, "alias": "champion"}
        for version in (1, "2"):
            execute(SetRegisteredModelAliasOperator, **champion, version=version)

            answer = execute(GetModelVersionByAliasOperator, **champion)

            assert answer["model_version"]["version"] == xcoms["version"] == str(version)

        assert execute(DeleteRegisteredModelAliasOperator, **champion) is None
        assert execute(GetModelVersionByAliasOperator, **champion, ignore_if_missing=True) is None
        assert execute(GetModelVersionOperator, name=two_versions, version=2)
        assert execute(DeleteRegisteredModelAliasOperator, **champion) is None, "deleting twice is no error"

    def test_an_alias_cannot_point_at_a_missing_version(self, execute, model):
        with pytest.raises(MLflowNotFoundError):
            execute(SetRegisteredModelAliasOperator, name=model, alias="champion", version=7)


class TestStages:
    @pytest.mark.parametrize(
        ("archive", "stages"),
        [(False, {"Production": "2"}), (True, {"Production": "2", "Archived": "1"})],
    )
    def test_a_version_moves_to_a_stage_and_may_archive_the_one_before(
        self, execute, two_versions, xcoms, archive, stages
    ):
        for version in (1, 2):
            answer = execute(
                TransitionModelVersionStageOperator,
                name=two_versions,
                version=version,
                stage="Production",
                archive_existing_versions=archive,
            )

        latest = execute(GetLatestModelVersionsOperator, name=two_versions)["model_versions"]
        in_production = execute(GetLatestModelVersionsOperator, name=two_versions, stages=["Production"])
        assert answer["model_version"]["current_stage"] == "Production"
        assert xcoms["model_uri"] == f"models:/{two_versions}/2"
        assert {version["current_stage"]: version["version"] for version in latest} == stages
        assert [version["version"] for version in in_production["model_versions"]] == ["2"]

    def test_a_stage_that_mlflow_rejects_is_named(self, execute, two_versions):
        with pytest.raises(MLflowAPIError, match="Nirvana") as error:
            execute(TransitionModelVersionStageOperator, name=two_versions, version=1, stage="Nirvana")

        assert error.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(
    ("operator_class", "arguments"),
    [
        (GetRegisteredModelOperator, {}),
        (DeleteRegisteredModelOperator, {}),
        (GetModelVersionOperator, {"version": 1}),
        (DeleteModelVersionOperator, {"version": 1}),
        (GetModelVersionByAliasOperator, {"alias": "champion"}),
        (DeleteRegisteredModelAliasOperator, {"alias": "champion"}),
        (GetLatestModelVersionsOperator, {}),
    ],
)
def test_a_missing_model_is_an_error_unless_ignored(execute, name, xcoms, operator_class, arguments):
    with pytest.raises(MLflowNotFoundError, match=name) as error:
        execute(operator_class, name=name, **arguments)

    assert (error.value.status_code, error.value.error_code) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert execute(operator_class, name=name, ignore_if_missing=True, **arguments) is None
    assert xcoms == {}


@pytest.mark.parametrize("operator_class", [GetModelVersionOperator, DeleteModelVersionOperator])
def test_a_missing_version_is_an_error_unless_ignored(execute, model, operator_class):
    assert execute(operator_class, name=model, version=7, ignore_if_missing=True) is None
    with pytest.raises(MLflowNotFoundError, match="version=7"):
        execute(operator_class, name=model, version=7)


@pytest.mark.parametrize("context", [{}, {"ds": "2026-01-01"}])
def test_an_operator_may_be_called_without_a_task_instance(two_versions, context):
    operators = [
        CreateModelVersionOperator(task_id="create", name=two_versions, source=SOURCE),
        GetModelVersionOperator(task_id="get", name=two_versions, version=3),
        GetOrCreateExperimentOperator(task_id="experiment", name=two_versions),
    ]

    created, got, experiment_id = (operator.execute(context) for operator in operators)

    assert created == got
    assert experiment_id


# The log line of each operator for a model with two versions.
LINES = [
    (CreateRegisteredModelOperator, {"if_exists": "skip"}, "Registered model '{name}' is ready: {page}"),
    (GetRegisteredModelOperator, {}, "Got registered model '{name}': {page}"),
    (UpdateRegisteredModelOperator, {"description": "new"}, "Updated registered model '{name}': {page}"),
    (SetRegisteredModelTagOperator, {"key": "k", "value": "v"}, "Set tag 'k' of '{name}': {page}"),
    (DeleteRegisteredModelOperator, {}, "Deleted registered model '{name}'"),
    (CreateModelVersionOperator, {"source": SOURCE}, "Created version 3 of '{name}': {page}/versions/3"),
    (
        CreateModelVersionOperator,
        {"source": f"{SOURCE}/1", "if_exists": "skip"},
        "s3://bucket/housing/1 is already version 1 of '{name}': {page}/versions/1",
    ),
    (
        CopyModelVersionOperator,
        {"version": 1, "to_name": "{name}-2"},
        "Copied models:/{name}/1 to version 1 of '{name}-2'",
    ),
    (GetModelVersionOperator, {"version": 1}, "Got version 1 of '{name}': {page}/versions/1"),
    (
        UpdateModelVersionOperator,
        {"version": 1, "description": "new"},
        "Updated version 1 of '{name}': {page}/versions/1",
    ),
    (
        SetModelVersionTagOperator,
        {"version": 1, "key": "k", "value": "v"},
        "Set tag 'k' of version 1 of '{name}': {page}/versions/1",
    ),
    (DeleteModelVersionOperator, {"version": 1}, "Deleted version 1 of '{name}': {page}"),
    (
        SetRegisteredModelAliasOperator,
        {"alias": "champion", "version": 1},
        "Set alias 'champion' of '{name}' to version 1: {page}/versions/1",
    ),
    (
        DeleteRegisteredModelAliasOperator,
        {"alias": "champion"},
        "Deleted alias 'champion' of '{name}': {page}",
    ),
    (GetLatestModelVersionsOperator, {}, "Got 1 latest versions of '{name}': {page}"),
    (
        TransitionModelVersionStageOperator,
        {"version": 1, "stage": "Staging"},
        "Moved to stage 'Staging': version 1 of '{name}': {page}/versions/1",
    ),
]


class TestLog:
    """One line at INFO, with the address of the page in MLflow."""

    @pytest.mark.parametrize(("operator_class", "arguments", "line"), LINES, ids=[line[2] for line in LINES])
    def test_has_what_the_operator_did(
        self, execute, hook, two_versions, logged, operator_class, arguments, line
    ):
        names = {"name": two_versions, "page": f"{hook.base_url}/#/models/{two_versions}"}
        if "to_name" in arguments:
            arguments = arguments | {"to_name": arguments["to_name"].format(**names)}

        execute(operator_class, name=two_versions, **arguments)

        assert len(logged) == 1
        assert logged[0].startswith(line.format(**names))

    def test_has_the_version_behind_an_alias(self, execute, two_versions, logged):
        execute(SetRegisteredModelAliasOperator, name=two_versions, alias="champion", version=2)
        execute(GetModelVersionByAliasOperator, name=two_versions, alias="champion")

        assert logged[-1].startswith(f"Alias 'champion' points at version 2 of '{two_versions}': http")

    def test_has_the_registered_model(self, execute, name, logged_model, logged):
        for _ in range(2):
            execute(RegisterModelOperator, model_uri=logged_model.uri, name=name)

        assert logged[-2].startswith(f"Registered {logged_model.uri} as version 1 of '{name}': http")
        assert logged[-1].startswith(f"{logged_model.uri} is already version 1 of '{name}'")

    def test_has_the_number_of_results(self, execute, two_versions, logged):
        execute(SearchModelVersionsOperator, filter_string=f"name = '{two_versions}'")
        execute(SearchRegisteredModelsOperator, filter_string=f"name = '{two_versions}'")

        assert logged[-2].startswith("Found 2 model versions: http")
        assert logged[-1].startswith("Found 1 registered models: http")
