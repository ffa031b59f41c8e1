"""Every registry operator, against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflow_provider.exceptions import MLflowAlreadyExistsError, MLflowAPIError, MLflowNotFoundError
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

if TYPE_CHECKING:
    from mlflow_provider.hooks.client import MLflowClientHook

SOURCE = "s3://bucket/housing"


def version_xcoms(hook: MLflowClientHook, name: str, version: str) -> dict[str, str]:
    """What an operator pushes that returns a model version, its button among it."""
    return {
        "name": name,
        "version": version,
        "model_uri": f"models:/{name}/{version}",
        "mlflow_model_version_link": hook.connection.page(f"models/{name}/versions/{version}"),
    }


@pytest.fixture
def model(execute, name):
    """The name of a registered model that has no version."""
    execute(CreateRegisteredModelOperator, name=name)
    return name


@pytest.fixture
def two_versions(execute, model, xcoms):
    """The name of a registered model that has two versions."""
    for number in (1, 2):
        execute(CreateModelVersionOperator, name=model, source=f"{SOURCE}/{number}")
    xcoms.clear()
    return model


class TestRegisteredModels:
    @pytest.mark.parametrize("tags", [{"data": "housing"}, [{"key": "data", "value": "housing"}]])
    def test_what_is_created_can_be_got(self, execute, name, tags):
        created = execute(CreateRegisteredModelOperator, name=name, tags=tags, description="Prices")

        assert execute(GetRegisteredModelOperator, name=name) == created
        assert (
            created["registered_model"].items()
            >= {
                "name": name,
                "description": "Prices",
                "tags": [{"key": "data", "value": "housing"}],
            }.items()
        )

    def test_creating_twice_fails_unless_it_may_be_skipped(self, execute, model):
        again = execute(CreateRegisteredModelOperator, name=model, description="other", if_exists="skip")

        assert again == execute(GetRegisteredModelOperator, name=model)
        assert "description" not in again["registered_model"]
        with pytest.raises(MLflowAlreadyExistsError, match=model) as raised:
            execute(CreateRegisteredModelOperator, name=model)
        assert raised.value.error_code == "RESOURCE_ALREADY_EXISTS"

    def test_search_finds_what_the_filter_says_in_order(self, execute, name):
        for suffix in "abc":
            execute(CreateRegisteredModelOperator, name=f"{name}-{suffix}")

        answer = execute(
            SearchRegisteredModelsOperator,
            filter_string=f"name LIKE '{name}-%'",
            order_by=["name DESC"],
            max_results=2,
        )

        assert [found["name"] for found in answer["registered_models"]] == [f"{name}-c", f"{name}-b"]

    def test_update_changes_the_description(self, execute, model):
        answer = execute(UpdateRegisteredModelOperator, name=model, description="Prices in Ames")

        assert answer["registered_model"]["description"] == "Prices in Ames"
        stored = execute(GetRegisteredModelOperator, name=model)["registered_model"]
        assert stored["description"] == "Prices in Ames"

    def test_a_tag_is_set_and_replaced(self, execute, model):
        for folds in (3, 5):
            execute(SetRegisteredModelTagOperator, name=model, key="folds", value=folds)

        stored = execute(GetRegisteredModelOperator, name=model)["registered_model"]
        assert stored["tags"] == [{"key": "folds", "value": "5"}]

    def test_what_is_deleted_is_gone(self, execute, two_versions):
        assert execute(DeleteRegisteredModelOperator, name=two_versions) is None

        assert execute(GetRegisteredModelOperator, name=two_versions, ignore_if_missing=True) is None


class TestCreateModelVersion:
    def test_makes_the_version_it_is_told_to(self, execute, hook, model, logged_model, xcoms):
        created = execute(
            CreateModelVersionOperator,
            name=model,
            source=logged_model.run_uri,
            run_id=logged_model.run_id,
            tags={"validated": "yes"},
            run_link="http://elsewhere/run",
            description="The first",
        )

        assert (
            created["model_version"].items()
            >= {
                "name": model,
                "version": "1",
                "source": logged_model.run_uri,
                "run_id": logged_model.run_id,
                "tags": [{"key": "validated", "value": "yes"}],
                "run_link": "http://elsewhere/run",
                "description": "The first",
            }.items()
        )
        assert xcoms == version_xcoms(hook, model, "1")

    def test_takes_a_logged_model_by_its_id(self, execute, hook, model, logged_model, predict, xcoms):
        execute(
            CreateModelVersionOperator, name=model, source=logged_model.uri, model_id=logged_model.model_id
        )

        assert predict(hook.connection, xcoms["model_uri"]) == pytest.approx(logged_model.predictions)

    def test_makes_another_version_by_default(self, execute, model):
        versions = [execute(CreateModelVersionOperator, name=model, source=SOURCE) for _ in range(2)]

        assert [created["model_version"]["version"] for created in versions] == ["1", "2"]

    def test_returns_the_version_from_the_same_source_when_it_may_skip(self, execute, two_versions, xcoms):
        source = f"{SOURCE}/1"

        answer = execute(CreateModelVersionOperator, name=two_versions, source=source, if_exists="skip")

        assert answer["model_version"]["version"] == xcoms["version"] == "1"

    def test_makes_a_version_from_a_new_source_when_it_may_skip(self, execute, two_versions):
        answer = execute(
            CreateModelVersionOperator, name=two_versions, source=f"{SOURCE}/3", if_exists="skip"
        )

        assert answer["model_version"]["version"] == "3"

    def test_fails_on_the_same_source_when_told_to(self, execute, two_versions):
        with pytest.raises(
            MLflowAlreadyExistsError, match=f"is already version 2 of '{two_versions}'"
        ) as raised:
            execute(CreateModelVersionOperator, name=two_versions, source=f"{SOURCE}/2", if_exists="fail")

        assert raised.value.error_code == "RESOURCE_ALREADY_EXISTS"

    def test_a_model_that_is_missing_is_not_found(self, execute, name):
        with pytest.raises(MLflowNotFoundError, match=name):
            execute(CreateModelVersionOperator, name=name, source=SOURCE)


class TestRegisterModel:
    @pytest.mark.parametrize("uri", ["run_uri", "uri"])
    def test_makes_model_and_version_that_another_task_can_load(
        self, execute, hook, name, logged_model, predict, xcoms, uri
    ):
        answer = execute(
            RegisterModelOperator,
            model_uri=getattr(logged_model, uri),
            name=name,
            tags={"validated": "yes"},
        )

        assert (
            answer["model_version"].items()
            >= {
                "version": "1",
                "run_id": logged_model.run_id,
                "tags": [{"key": "validated", "value": "yes"}],
            }.items()
        )
        assert xcoms == version_xcoms(hook, name, "1")
        assert predict(hook.connection, xcoms["model_uri"]) == pytest.approx(logged_model.predictions)

    def test_registers_a_model_once_however_often_it_is_retried(self, execute, name, logged_model):
        answers = [
            execute(RegisterModelOperator, model_uri=uri, name=name)
            for uri in (logged_model.run_uri, logged_model.run_uri, logged_model.uri)
        ]

        assert [answer["model_version"]["version"] for answer in answers] == ["1", "1", "1"]

    def test_makes_another_version_or_fails_when_told_to(self, execute, name, logged_model):
        arguments = {"model_uri": logged_model.uri, "name": name}
        execute(RegisterModelOperator, **arguments)

        another = execute(RegisterModelOperator, **arguments, if_exists="new")

        assert another["model_version"]["version"] == "2"
        with pytest.raises(MLflowAlreadyExistsError, match=f"is already version 2 of '{name}'"):
            execute(RegisterModelOperator, **arguments, if_exists="fail")

    def test_a_run_that_is_missing_is_not_found_and_leaves_no_model(self, execute, name):
        with pytest.raises(MLflowNotFoundError):
            execute(RegisterModelOperator, model_uri=f"runs:/{'0' * 32}/model", name=name)

        assert execute(GetRegisteredModelOperator, name=name, ignore_if_missing=True) is None


class TestModelVersions:
    def test_get_returns_the_version(self, execute, hook, two_versions, xcoms):
        answer = execute(GetModelVersionOperator, name=two_versions, version=2)

        assert answer["model_version"]["source"] == f"{SOURCE}/2"
        assert xcoms == version_xcoms(hook, two_versions, "2")

    def test_search_finds_what_the_filter_says_in_order(self, execute, two_versions):
        answer = execute(
            SearchModelVersionsOperator,
            filter_string=f"name = '{two_versions}'",
            order_by=["version_number DESC"],
        )

        assert [found["version"] for found in answer["model_versions"]] == ["2", "1"]

    def test_update_changes_the_description(self, execute, two_versions):
        answer = execute(UpdateModelVersionOperator, name=two_versions, version=1, description="Older")

        assert answer["model_version"]["description"] == "Older"
        stored = execute(GetModelVersionOperator, name=two_versions, version=1)["model_version"]
        assert stored["description"] == "Older"

    def test_a_tag_is_set_on_one_version(self, execute, two_versions):
        execute(SetModelVersionTagOperator, name=two_versions, version="1", key="folds", value=5)

        first, second = (
            execute(GetModelVersionOperator, name=two_versions, version=version)["model_version"]
            for version in (1, 2)
        )
        assert first["tags"] == [{"key": "folds", "value": "5"}]
        assert "tags" not in second

    def test_what_is_deleted_is_gone_and_the_others_stay(self, execute, two_versions):
        assert execute(DeleteModelVersionOperator, name=two_versions, version=1) is None

        answer = execute(SearchModelVersionsOperator, filter_string=f"name = '{two_versions}'")
        assert [found["version"] for found in answer["model_versions"]] == ["2"]

    def test_a_copy_is_a_version_of_the_other_model(self, execute, hook, name, logged_model, predict, xcoms):
        execute(RegisterModelOperator, model_uri=logged_model.uri, name=name)
        production = f"{name}-production"

        answer = execute(CopyModelVersionOperator, name=name, version=1, to_name=production)

        assert answer["model_version"]["name"] == production
        assert answer["model_version"]["source"] == f"models:/{name}/1"
        assert xcoms["model_uri"] == f"models:/{production}/1"
        assert predict(hook.connection, xcoms["model_uri"]) == pytest.approx(logged_model.predictions)

    def test_a_version_is_copied_once_however_often_that_is_retried(self, execute, two_versions, xcoms):
        arguments = {"name": two_versions, "to_name": f"{two_versions}-production"}

        copies = [
            execute(CopyModelVersionOperator, **arguments, version=version)["model_version"]["version"]
            for version in (1, 1, 2, 1)
        ]

        assert copies == ["1", "1", "2", "1"]
        assert xcoms["version"] == "1"

    def test_a_version_is_copied_again_or_fails_when_told_to(self, execute, two_versions):
        arguments = {"name": two_versions, "version": 1, "to_name": f"{two_versions}-production"}
        execute(CopyModelVersionOperator, **arguments)

        again = execute(CopyModelVersionOperator, **arguments, if_exists="new")

        assert again["model_version"]["version"] == "2"
        with pytest.raises(
            MLflowAlreadyExistsError, match=f"is already version 2 of '{two_versions}-production'"
        ):
            execute(CopyModelVersionOperator, **arguments, if_exists="fail")


class TestAliases:
    def test_an_alias_moves_from_version_to_version_until_it_is_deleted(self, execute, two_versions, xcoms):
        champion = {"name": two_versions, "alias": "champion"}
        for version in (1, "2"):
            execute(SetRegisteredModelAliasOperator, **champion, version=version)

            answer = execute(GetModelVersionByAliasOperator, **champion)

            assert answer["model_version"]["version"] == xcoms["version"] == str(version)

        assert execute(DeleteRegisteredModelAliasOperator, **champion) is None
        assert execute(GetModelVersionByAliasOperator, **champion, ignore_if_missing=True) is None
        assert execute(GetModelVersionOperator, name=two_versions, version=2)

    def test_an_alias_cannot_point_at_a_version_that_is_missing(self, execute, model):
        with pytest.raises(MLflowNotFoundError):
            execute(SetRegisteredModelAliasOperator, name=model, alias="champion", version=7)

    def test_deleting_an_alias_that_is_not_there_is_no_error(self, execute, model):
        assert execute(DeleteRegisteredModelAliasOperator, name=model, alias="champion") is None


class TestStages:
    def test_a_version_moves_into_a_stage_and_is_its_latest(self, execute, two_versions, xcoms):
        answer = execute(
            TransitionModelVersionStageOperator, name=two_versions, version=1, stage="Production"
        )

        assert answer["model_version"]["current_stage"] == "Production"
        assert xcoms["model_uri"] == f"models:/{two_versions}/1"
        latest = execute(GetLatestModelVersionsOperator, name=two_versions, stages=["Production"])
        assert [found["version"] for found in latest["model_versions"]] == ["1"]

    def test_latest_versions_are_those_of_every_stage_by_default(self, execute, two_versions):
        execute(TransitionModelVersionStageOperator, name=two_versions, version=1, stage="Staging")

        latest = execute(GetLatestModelVersionsOperator, name=two_versions)

        assert {found["current_stage"]: found["version"] for found in latest["model_versions"]} == {
            "Staging": "1",
            "None": "2",
        }

    @pytest.mark.parametrize(("archive", "stage_of_the_first"), [(False, "Production"), (True, "Archived")])
    def test_the_version_that_was_in_a_stage_is_archived_when_told_to(
        self, execute, two_versions, archive, stage_of_the_first
    ):
        for version in (1, 2):
            execute(
                TransitionModelVersionStageOperator,
                name=two_versions,
                version=version,
                stage="Production",
                archive_existing_versions=archive,
            )

        first = execute(GetModelVersionOperator, name=two_versions, version=1)["model_version"]
        assert first["current_stage"] == stage_of_the_first

    def test_a_stage_that_mlflow_refuses_is_named(self, execute, two_versions):
        with pytest.raises(MLflowAPIError, match="Nirvana") as raised:
            execute(TransitionModelVersionStageOperator, name=two_versions, version=1, stage="Nirvana")

        assert raised.value.error_code == "INVALID_PARAMETER_VALUE"


MISSABLE = [
    (GetRegisteredModelOperator, {}),
    (DeleteRegisteredModelOperator, {}),
    (GetModelVersionOperator, {"version": 1}),
    (DeleteModelVersionOperator, {"version": 1}),
    (GetModelVersionByAliasOperator, {"alias": "champion"}),
    (DeleteRegisteredModelAliasOperator, {"alias": "champion"}),
    (GetLatestModelVersionsOperator, {}),
]


@pytest.mark.parametrize(
    ("operator_class", "arguments"), MISSABLE, ids=[case[0].__name__ for case in MISSABLE]
)
class TestMissing:
    def test_a_model_that_is_missing_is_an_error(self, execute, name, operator_class, arguments):
        with pytest.raises(MLflowNotFoundError, match=name) as raised:
            execute(operator_class, name=name, **arguments)

        assert (raised.value.status_code, raised.value.error_code) == (404, "RESOURCE_DOES_NOT_EXIST")

    def test_a_model_that_is_missing_may_be_ignored(self, execute, name, xcoms, operator_class, arguments):
        assert execute(operator_class, name=name, ignore_if_missing=True, **arguments) is None
        assert xcoms == {}


@pytest.mark.parametrize("operator_class", [GetModelVersionOperator, DeleteModelVersionOperator])
def test_a_version_that_is_missing_is_an_error_or_ignored(execute, model, operator_class):
    assert execute(operator_class, name=model, version=7, ignore_if_missing=True) is None
    with pytest.raises(MLflowNotFoundError, match="version=7"):
        execute(operator_class, name=model, version=7)


# What each operator logs of a model with two versions.
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
    """One line, at INFO, with the address of the page that a browser shows."""

    @pytest.mark.parametrize(("operator_class", "arguments", "line"), LINES, ids=[line[2] for line in LINES])
    def test_says_what_the_operator_did(
        self, execute, hook, two_versions, logged, operator_class, arguments, line
    ):
        names = {"name": two_versions, "page": f"{hook.base_url}/#/models/{two_versions}"}
        if "to_name" in arguments:
            arguments = arguments | {"to_name": arguments["to_name"].format(**names)}

        execute(operator_class, name=two_versions, **arguments)

        assert len(logged) == 1
        assert logged[0].startswith(line.format(**names))

    def test_says_where_an_alias_points(self, execute, two_versions, logged):
        execute(SetRegisteredModelAliasOperator, name=two_versions, alias="champion", version=2)
        execute(GetModelVersionByAliasOperator, name=two_versions, alias="champion")

        assert logged[-1].startswith(f"Alias 'champion' points at version 2 of '{two_versions}': http")

    def test_says_what_was_registered(self, execute, name, logged_model, logged):
        for _ in range(2):
            execute(RegisterModelOperator, model_uri=logged_model.uri, name=name)

        assert logged[-2].startswith(f"Registered {logged_model.uri} as version 1 of '{name}': http")
        assert logged[-1].startswith(f"{logged_model.uri} is already version 1 of '{name}'")

    def test_says_how_many_were_found(self, execute, two_versions, logged):
        execute(SearchModelVersionsOperator, filter_string=f"name = '{two_versions}'")
        execute(SearchRegisteredModelsOperator, filter_string=f"name = '{two_versions}'")

        assert logged[-2].startswith("Found 2 model versions: http")
        assert logged[-1].startswith("Found 1 registered models: http")
