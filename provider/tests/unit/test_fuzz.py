"""Any connection and any input of a model works, or an error says why not."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import re
import socket
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from airflow.sdk import BaseOperator, Connection
from botocore.configloader import load_config
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from hypothesis.extra import pandas as frames

from mlflow_provider.exceptions import MLflowConfigurationError, MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.operators import experiment as experiment_operators
from mlflow_provider.operators import promotion, registry
from mlflow_provider.predict.script import decode, encode, to_json
from mlflow_provider.process.environment import environment
from mlflow_provider.server import artifact_store
from mlflow_provider.server.artifact_store import (
    AWS_OPTIONS,
    AZURE_OPTIONS,
    GOOGLE_OPTIONS,
    ROLE_OPTIONS,
    ArtifactStore,
    credentials,
)
from mlflow_provider.server.connection import CONNECTION_TYPES, OPTIONS, MLflowConnection
from mlflow_provider.server.fields import DATABRICKS_DOMAINS
from mlflow_provider.server.limits import Limits
from mlflow_provider.server.logins import choice
from mlflow_provider.tracking import parent_run, runs
from mlflow_provider.triggers.registry import get_registered_model, new_version

# The same examples each time, so that failures repeat. For other examples: derandomize=False.
fuzz = settings(max_examples=100, deadline=None, derandomize=True, database=None)
fuzz_300 = settings(fuzz, max_examples=300)

SECRET = hashlib.sha256(b"password").hexdigest()  # not a constant, which hypothesis would reuse elsewhere
MAX_WAIT_SECONDS = 60  # a tracked task fails within a minute

text = st.text(max_size=30)
any_text = st.text(st.characters(), max_size=30)  # also halves of surrogate pairs
hosts = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "", "http://", "https://", "HTTP://", "ftp://", "//", "://", "http:/"]),
    st.sampled_from(["", "", "ada@", f"ada:{SECRET}@", "@"]),
    st.one_of(
        any_text,
        st.sampled_from(["mlflow", "127.0.0.1", "::1", "[::1]", "[", "1.2", f"a{DATABRICKS_DOMAINS[0]}"]),
    ),
    st.sampled_from(["", "", ":5000", ":", ":0", ":99999", ":x", ":5000:5000"]),
    st.one_of(
        st.just(""), any_text.map("/{}".format), any_text.map("?{}".format), any_text.map("#{}".format)
    ),
)
values: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), any_text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(any_text, inner, max_size=3)),
    max_leaves=5,
)
extras = st.dictionaries(st.one_of(st.sampled_from(OPTIONS), any_text), st.one_of(values, hosts), max_size=4)
connections = st.fixed_dictionaries(
    {
        "conn_type": st.one_of(st.sampled_from(CONNECTION_TYPES), any_text),
        "host": st.one_of(st.none(), hosts),
        "port": st.one_of(st.none(), st.integers(-1, 70_000)),
        "schema": st.one_of(st.none(), st.sampled_from(["", "http", "https"]), any_text),
        "login": st.one_of(st.none(), st.just("token"), any_text),
        "password": st.one_of(st.none(), st.just(SECRET), any_text.map(f"{SECRET}{{}}".format)),
        "extra": st.one_of(st.none(), any_text, extras.map(json.dumps)),
    }
)
keys = {"login": st.one_of(st.none(), any_text), "password": st.one_of(st.none(), st.just(SECRET))}
role = {
    "role_arn": any_text,
    "assume_role_kwargs": st.dictionaries(st.sampled_from([*ROLE_OPTIONS]), any_text),
}
options_of = {"aws": AWS_OPTIONS, "google_cloud_platform": GOOGLE_OPTIONS, "wasb": AZURE_OPTIONS}
stores = st.one_of(
    st.fixed_dictionaries({"conn_type": st.just("aws"), **keys, "extra": st.fixed_dictionaries(role)}),
    *(
        st.fixed_dictionaries(
            {
                "conn_type": st.just(conn_type),
                **keys,
                "extra": st.dictionaries(st.sampled_from(options), st.one_of(any_text, values), max_size=2),
            }
        )
        for conn_type, options in options_of.items()
    ),
).map(lambda fields: {**fields, "extra": json.dumps(fields["extra"])})


def read_or_problem(
    kind: type[MLflowConnection | ArtifactStore], fields: dict[str, Any]
) -> MLflowConnection | ArtifactStore | str:
    # Airflow compiles its masks anew for each secret.
    with mock.patch.object(choice, "mask_secret"), mock.patch.object(artifact_store, "mask_secret"):
        try:
            return kind.read("mlflow_default", lambda conn_id: Connection(conn_id=conn_id, **fields))
        except MLflowConfigurationError as error:
            return f"{error.field}: {error.problem}; {error.fix}"


@given(connections)
@fuzz_300
def test_a_connection_is_read_or_its_invalid_field_is_named_without_the_password(fields):
    before = dict(os.environ)

    result = read_or_problem(MLflowConnection, fields)

    assert SECRET not in repr(result)
    if isinstance(result, str):
        assert re.fullmatch(r"(?s)[A-Z].+: .+; .+", result)
    else:
        assert result.url.startswith(("http://", "https://"))
        with environment(result.environment):
            pass
    assert os.environ == before


@given(stores)
@fuzz_300
def test_an_artifact_store_is_read_or_its_invalid_field_is_named_and_awss_library_reads_its_file(fields):
    before = dict(os.environ)

    result = read_or_problem(ArtifactStore, fields)

    assert SECRET not in repr(result)
    if isinstance(result, str):
        assert re.fullmatch(r"(?s)[A-Z].+: .+; .+", result)
    else:
        with credentials(replace(result, paths={})):
            if "AWS_CONFIG_FILE" in result.files:
                profiles = load_config(os.environ["AWS_CONFIG_FILE"])["profiles"]
                assert profiles[os.environ["AWS_PROFILE"]]["role_arn"]
    assert os.environ == before


RUN_ID = "a" * 32
MODEL = "models:/m-1"
metric = {"key": "rmse", "value": 0, "timestamp": 1, "step": 0, "run_id": RUN_ID}
run = {
    "info": {
        "run_id": RUN_ID,
        "experiment_id": "1",
        "run_name": "train",
        "status": "RUNNING",
        "start_time": 1,
        "end_time": None,
        "artifact_uri": "mlflow-artifacts:/1",
    },
    "data": {"tags": [{"key": "airflow.dag_id", "value": "train"}], "metrics": [metric]},
    "outputs": {"model_outputs": [{"model_id": "m-1", "step": "0"}]},
}
version = {"name": "Housing", "version": "1", "source": MODEL, "run_id": RUN_ID}
experiment = {"experiment_id": "1", "name": "Housing", "lifecycle_stage": "active"}
registered_model = {
    "name": "Housing",
    "creation_timestamp": 1,
    "aliases": [{"alias": "champion", "version": "1"}],
    "latest_versions": [version],
}
# A correct answer to all requests at once.
CORRECT: dict[str, Any] = {
    "error_code": "INVALID_STATE",
    "message": "no",
    "run": run,
    "run_info": run["info"],
    "runs": [run],
    "experiment_id": "1",
    "experiment": experiment,
    "experiments": [experiment],
    "metrics": [metric],
    "files": [{"path": "model/MLmodel"}],
    "model": {"info": {"name": "model", "artifact_uri": "s3://models"}, "data": {"metrics": [metric]}},
    "registered_model": registered_model,
    "registered_models": [registered_model],
    "model_version": version,
    "model_versions": [version],
}
CALLS: list[Callable[[MLflowClientHook], Any]] = [
    MLflowClientHook.test_connection,
    lambda hook: hook.run("version"),
    lambda hook: hook.run("version", allow_redirects=True),
    lambda hook: hook.get_or_create_experiment("Housing"),
    lambda hook: hook.create_registered_model("Housing", if_exists="skip"),
    lambda hook: hook.find_model_version("Housing", f"runs:/{RUN_ID}/model"),
    lambda hook: hook.resolve_source(f"runs:/{RUN_ID}/model"),
    lambda hook: hook.search("registered-models"),
    lambda hook: hook.search_experiments(),
    lambda hook: runs.search(hook, runs.all_experiments(hook), ""),
    lambda hook: runs.create(hook, "1", "train", {}, {}),
    lambda hook: runs.end(hook, RUN_ID, "KILLED", "stopped"),
    lambda hook: parent_run.get_or_create(hook, "1", runs.dag_run_tags("train", "1"), others_running=False),
    lambda hook: parent_run.end_if_children_ended(hook, "1", RUN_ID),
    lambda hook: new_version(get_registered_model(hook, "Housing") or {}, None, "0"),
    lambda hook: new_version(get_registered_model(hook, "Housing") or {}, "champion", "0"),
]
OPERATORS = [
    operator
    for module in (experiment_operators, promotion, registry)
    for operator in vars(module).values()
    if getattr(operator, "__module__", None) == module.__name__
    and getattr(operator, "execute", BaseOperator.execute) is not BaseOperator.execute
]
ARGUMENTS = {
    "name": "Housing",
    "to_name": "Copy",
    "version": "1",
    "source": f"runs:/{RUN_ID}/model",
    "model_uri": f"runs:/{RUN_ID}/model",
    "alias": "champion",
    "stage": "Staging",
    "metric": "rmse",
    "greater_is_better": False,
}


def executed(operator_class: Any) -> Callable[[MLflowClientHook], Any]:
    """Return a call that executes an operator."""
    required = {
        name
        for name, parameter in inspect.signature(operator_class).parameters.items()
        if parameter.kind == parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    }
    operator = operator_class(task_id="fuzz", **{name: ARGUMENTS.get(name, "text") for name in required})

    def execute(hook: MLflowClientHook) -> Any:
        operator.hook = hook
        return operator.execute({})

    return execute


CALLS += map(executed, OPERATORS)


def hook_of(url: str) -> MLflowClientHook:
    connection = MLflowConnection("mlflow_default", url, timeout=5, retry_timeout=0)
    return MLflowClientHook.for_connection(connection)


def with_field(answer: Any, name: str, value: Any) -> Any:
    """Return an answer whose fields of this name have another value; the ellipsis removes them."""
    if isinstance(answer, list):
        return [with_field(each, name, value) for each in answer]
    if not isinstance(answer, dict):
        return answer
    fields = {key: value if key == name else with_field(each, name, value) for key, each in answer.items()}
    return {key: each for key, each in fields.items() if each is not ...}


# As text, because hypothesis would show them.
LONG = {b'"deep"': b"[" * 200_000 + b"]" * 200_000, b'"digits"': b"9" * 20_000, b'"long"': b'"%0100000d"' % 0}
FIELDS = sorted(set(re.findall(r'"(\w+)":', json.dumps(CORRECT))))
wrong = st.sampled_from(
    [..., None, True, [], {}, [None], "", "deep", "digits", "long", 1e40, "9" * 99, "\ud800", "\x1b[3m\u2028"]
)
bodies = st.one_of(
    st.builds(with_field, st.just(CORRECT), st.sampled_from(FIELDS), st.one_of(wrong, values)).map(
        json.dumps
    ),
    st.sampled_from(["", "null", "[]", '"deep"', '"digits"', json.dumps(CORRECT)]),
    text,
)
headers = st.sampled_from(
    [
        b"X: " + b"x" * 70_000,
        b"Content-Type: application/json; charset=no\x00ne",
        b"Content-Type: text/html; charset=idna",
        b"Content-Encoding: gzip",
        b"Location: http://[",
        b"Location: http://ada:pw@x:y/\xff",
        b"Retry-After: soon",
        b"Set-Cookie: \xff=;;=",
    ]
)
statuses = st.sampled_from(
    [*[b"200 OK"] * 8, b"302 Found", b"400 \x1b[3m", b"401 ", b"404 ", b"500 ", b"999 ", b"x"]
)


@given(statuses, st.lists(headers, max_size=2), bodies, st.sampled_from(["utf-8"] * 9 + ["utf-16"]))
@fuzz_300
def test_any_answer_is_read_or_one_of_the_providers_errors(hostile_server, status, headers, body, encoding):
    content = body.encode(encoding, "surrogatepass")
    for short, long in LONG.items():
        content = content.replace(short, long)
    hostile_server.answer(content, *headers, status=status)
    hook = hook_of(hostile_server.url)
    waits, now = [0.0], time.monotonic

    def later() -> float:
        return now() + sum(waits)

    with mock.patch("time.sleep", waits.append), mock.patch("time.monotonic", later):
        for call in CALLS:
            waits[:] = [0.0]
            with contextlib.suppress(MLflowProviderError):
                call(hook)
            assert sum(waits) < MAX_WAIT_SECONDS


@pytest.mark.parametrize("body", LONG.values(), ids=LONG)
def test_a_long_answer_takes_at_most_64_mb(hostile_server, body):
    hostile_server.answer(body)
    hook = hook_of(hostile_server.url)
    tracemalloc.start()

    with pytest.raises(MLflowProviderError):
        hook.search_experiments()

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20


names = st.one_of(text, st.text("abc.-_:[]%ä🏠", min_size=1), st.sampled_from(["mlflow", "127.0.0.1", "::1"]))
complete = st.fixed_dictionaries(
    {
        "conn_type": st.sampled_from(CONNECTION_TYPES),
        "host": st.builds(
            "{}{}{}".format, st.sampled_from(["", "http://", "https://"]), names, text.map("/{}".format)
        ),
        "port": st.one_of(st.none(), st.integers(0, 65_535)),
        "login": st.one_of(st.just("token"), text.filter(bool)),
        "password": st.just(SECRET),
    }
)


@given(complete)
@settings(fuzz_300, suppress_health_check=[HealthCheck.filter_too_much])
def test_a_request_with_any_valid_connection_fails_without_the_password(fields):
    result = read_or_problem(MLflowConnection, fields)
    assume(isinstance(result, MLflowConnection))
    hook = MLflowClientHook.for_connection(result).with_limits(Limits(timeout=1))
    # The names that hypothesis invents must not be looked up.
    unknown = mock.patch("socket.getaddrinfo", side_effect=socket.gaierror(socket.EAI_NONAME, "not known"))

    with unknown, pytest.raises(MLflowProviderError) as raised:
        hook.search_experiments()

    assert SECRET not in str(raised.value)


plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), text, st.binary(max_size=9)
)
dtypes = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(endianness="="),
    arrays.floating_dtypes(endianness="="),
    arrays.datetime64_dtypes(min_period="ns", max_period="s", endianness="="),
)
inputs: Any = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(text, st.integers(), st.tuples(text, text)), inner, max_size=3),
    ),
    max_leaves=8,
)


def through_a_file(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value))))


@given(inputs)
@fuzz
def test_built_in_types_arrive_unchanged(value):
    assert through_a_file(value) == value


@given(arrays.arrays(dtypes, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
@fuzz
def test_arrays_arrive_unchanged(array):
    back = through_a_file(array)

    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)


@given(
    frames.data_frames(
        [
            frames.column("area", dtype=float),
            frames.column("rooms", dtype=int),
            frames.column("street", elements=st.one_of(st.none(), text), dtype=object),
            frames.column("is_new", dtype=bool),
        ],
        index=st.one_of(frames.range_indexes(), frames.indexes(elements=text, dtype=object)),
    )
)
@fuzz
def test_frames_arrive_unchanged(frame):
    back = through_a_file(frame)

    pd.testing.assert_frame_equal(back, frame, check_index_type=False, check_column_type=False)


@given(
    st.one_of(inputs, arrays.arrays(dtypes, 3), st.floats(), st.lists(st.floats()), st.sets(st.integers()))
)
@fuzz
def test_predictions_become_json_or_an_error(predictions):
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    try:
        answer = to_json(predictions)
    except TypeError as error:
        answer = json.dumps(str(error))
    json.loads(answer, parse_constant=refuse)
