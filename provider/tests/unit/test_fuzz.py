"""Any connection and any input of a model works, or an error says why not."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from airflow.sdk import Connection
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from hypothesis.extra import pandas as frames

from mlflow_provider.exceptions import MLflowConfigurationError, MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.predict.script import decode, encode, to_json
from mlflow_provider.process.environment import environment
from mlflow_provider.server.connection import CONNECTION_TYPES, DATABRICKS_DOMAINS, OPTIONS, MLflowConnection
from mlflow_provider.server.limits import Limits

# The same examples each time, so that failures repeat. For other examples: derandomize=False.
fuzz = settings(max_examples=100, deadline=None, derandomize=True, database=None)

SECRET = hashlib.sha256(b"password").hexdigest()  # not a constant, which hypothesis would reuse elsewhere
text = st.text(max_size=30)
hosts = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "", "http://", "https://", "HTTP://", "ftp://", "//", "://", "http:/"]),
    st.sampled_from(["", "", "ada@", f"ada:{SECRET}@", "@"]),
    st.one_of(
        text,
        st.sampled_from(["mlflow", "127.0.0.1", "::1", "[::1]", "[", "1.2", f"a{DATABRICKS_DOMAINS[0]}"]),
    ),
    st.sampled_from(["", "", ":5000", ":", ":0", ":99999", ":x", ":5000:5000"]),
    st.one_of(st.just(""), text.map("/{}".format), text.map("?{}".format), text.map("#{}".format)),
)
values: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=5,
)
extras = st.dictionaries(st.one_of(st.sampled_from(OPTIONS), text), st.one_of(values, hosts), max_size=4)
connections = st.fixed_dictionaries(
    {
        "conn_type": st.one_of(st.sampled_from(CONNECTION_TYPES), text),
        "host": st.one_of(st.none(), hosts),
        "port": st.one_of(st.none(), st.integers(-1, 70_000)),
        "schema": st.one_of(st.none(), st.sampled_from(["", "http", "https"]), text),
        "login": st.one_of(st.none(), st.just("token"), text),
        "password": st.one_of(st.none(), st.just(SECRET), text.map(f"{SECRET}{{}}".format)),
        "extra": st.one_of(st.none(), text, extras.map(json.dumps)),
    }
)


def read(fields: dict[str, Any], store: dict[str, Any]) -> MLflowConnection:
    def get_connection(conn_id: str) -> Connection:
        return Connection(conn_id=conn_id, **(fields if conn_id == "mlflow_default" else store))

    return MLflowConnection.read("mlflow_default", get_connection)


def read_or_problem(fields: dict[str, Any], store: dict[str, Any]) -> MLflowConnection | str:
    try:
        return read(fields, store)
    except MLflowConfigurationError as error:
        return f"{error.field}: {error.problem}; {error.fix}"


@given(connections, connections)
@fuzz
def test_a_connection_is_read_or_its_invalid_field_is_named_without_the_password(fields, store):
    result = read_or_problem(fields, store)

    assert SECRET not in repr(result)
    if isinstance(result, str):
        assert re.fullmatch(r"(?s)[A-Z].+: .+; .+", result)
    else:
        assert result.url.startswith(("http://", "https://"))
        with environment(result.environment):
            pass


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
@settings(fuzz, suppress_health_check=[HealthCheck.filter_too_much])
def test_a_request_with_any_valid_connection_fails_without_the_password(fields):
    result = read_or_problem(fields, {})
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
    assert json.loads(answer, parse_constant=refuse) != ""
