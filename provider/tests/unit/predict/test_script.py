"""Input reaches a model unchanged, also through a file, and predictions become JSON."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from mlflow.types import ColSpec, Schema, TensorSpec
from scipy.sparse import csc_matrix, csr_matrix

from mlflow_provider.predict.script import as_input, decode, encode, to_json

HOUSES = pd.DataFrame(
    {
        "area": np.array([120.5, np.nan, 80], dtype="float32"),
        "rooms": np.array([4, 5, 3], dtype="int8"),
        "is_new": [True, False, True],
        "sold": pd.to_datetime(["2026-01-31 12:00:00.123456789", None, "2026-03-01"], format="ISO8601"),
        "quality": pd.Categorical(["good", None, "bad"], categories=["bad", "good", "best"], ordered=True),
        "baths": pd.array([1, None, 2], dtype="Int64"),
        "street": ["Elm", None, "Ünter den Linden"],
        "note": pd.Series(["a", None, 1.5], dtype="object"),
    },
    index=pd.Index([10, 20, 20], name="id"),
)


def through_a_file(value):
    return decode(json.loads(json.dumps(encode(value))))


class TestInput:
    @pytest.mark.parametrize(
        "frame",
        [
            HOUSES,
            HOUSES[:0],
            HOUSES.set_axis(list("aabbccdd"), axis=1),
            pd.DataFrame(np.eye(2)),
            pd.DataFrame({("area", "m2"): [1.0]}),
            pd.DataFrame(index=[1, 2]),
        ],
        ids=["types", "no rows", "labels that repeat", "numbered", "labels of two levels", "no columns"],
    )
    def test_frames_keep_types_labels_and_index(self, frame):
        pd.testing.assert_frame_equal(
            through_a_file(frame), frame, check_index_type=False, check_column_type=False
        )

    @pytest.mark.parametrize("column", HOUSES)
    def test_series_keep_type_name_and_index(self, column):
        pd.testing.assert_series_equal(through_a_file(HOUSES[column]), HOUSES[column])

    @pytest.mark.parametrize(
        "array",
        [
            np.array([[0.1, np.nan]], dtype="float32"),
            np.arange(24, dtype="uint8").reshape(2, 3, 4),
            np.array(["2026-01-31"], dtype="datetime64[ns]"),
            np.array(["Elm", "Ünter"]),
            np.array([["Elm", None], [1, 2.5]], dtype=object),
            np.float32(0.1),
        ],
        ids=lambda array: str(array.dtype),
    )
    def test_arrays_keep_type_and_shape(self, array):
        copy = through_a_file(array)

        assert (copy.dtype, copy.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(copy, array)

    @pytest.mark.parametrize("kind", [csr_matrix, csc_matrix])
    def test_sparse_matrices_stay_sparse(self, kind):
        matrix = kind(np.array([[0, 1.5], [0, 0]]))

        copy = through_a_file(matrix)

        assert copy.nnz == 1
        np.testing.assert_array_equal(copy.toarray(), matrix.toarray())

    def test_lists_and_dicts_keep_their_elements(self):
        value = {"a": np.array([1.0]), 2: [None, True, "x", b"\xff"], "npy": {"frame": []}}

        copy = through_a_file(value)

        np.testing.assert_array_equal(copy.pop("a"), value.pop("a"))
        assert copy == value

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            (pd.DataFrame({"sold": pd.to_datetime(["2026-01-31"], utc=True)}), "'sold' of type datetime64"),
            (HOUSES.set_index(["street", "rooms"]), "reset_index"),
            ([object()], "A object cannot"),
        ],
    )
    def test_a_value_that_would_change_is_rejected(self, value, problem):
        with pytest.raises(TypeError, match=problem):
            encode(value)


class TestTypesOfTheSignature:
    @pytest.mark.parametrize(
        ("values", "mlflow_type", "cast"),
        [
            ([3.0, 5.0], "long", [3, 5]),
            ([0, 1], "boolean", [False, True]),
            ([True, False], "integer", [1, 0]),
            ([80, 120], "double", [80.0, 120.0]),
            ([0.1], "float", [np.float32(0.1)]),
            (["Elm"], "long", ["Elm"]),
        ],
    )
    def test_numbers_get_the_type_of_the_signature(self, values, mlflow_type, cast):
        frame = as_input([[value] for value in values], Schema([ColSpec(mlflow_type, "x")]))

        assert frame["x"].tolist() == cast
        assert isinstance(frame["x"].tolist()[0], type(cast[0]) if mlflow_type != "float" else float)

    @pytest.mark.parametrize(
        ("value", "mlflow_type"),
        [
            (3.5, "long"),
            (np.nan, "long"),
            (2**40, "integer"),
            (1e300, "long"),
            (2, "boolean"),
            (np.nan, "boolean"),
            (1e300, "float"),
        ],
    )
    def test_a_number_that_does_not_fit_the_type_is_rejected(self, value, mlflow_type):
        frame = pd.DataFrame({"x": [1, value]})

        with pytest.raises(ValueError, match="Column 'x', row 1"):
            as_input(frame, Schema([ColSpec(mlflow_type, "x")]))

    def test_tensors_are_also_cast_and_rejected(self):
        schema = Schema([TensorSpec(np.dtype("uint8"), (-1, 2))])

        assert as_input([[1.0, 2.0]], schema).dtype == "uint8"
        with pytest.raises(ValueError, match="The input, row 1"):
            as_input([[1, 2], [3, -4]], schema)

    def test_a_series_is_a_column(self):
        frame = as_input(pd.Series([1.0], name="x"), Schema([ColSpec("long", "x")]))

        assert frame["x"].dtype == "int64"

    def test_a_dict_of_tensors_is_cast_by_its_names(self):
        schema = Schema([TensorSpec(np.dtype("int64"), (-1,), name) for name in "ab"])

        tensors = as_input({"a": np.array([1.0]), "b": np.array([2.0])}, schema)

        assert [tensor.dtype for tensor in tensors.values()] == ["int64", "int64"]

    def test_the_callers_data_is_not_changed(self):
        frame = pd.DataFrame({"x": [1.0]})

        as_input(frame, Schema([ColSpec("long", "x")]))

        assert frame["x"].dtype == "float64"


class TestPredictions:
    @pytest.mark.parametrize(
        ("predictions", "rows"),
        [
            (np.array([1.5, 2.5]), [1.5, 2.5]),
            (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
            (pd.Series(["a", "b"], index=[7, 8]), ["a", "b"]),
            (
                pd.DataFrame({"price": [1.5], "on": pd.to_datetime(["2026-01-31"])}),
                [{"price": 1.5, "on": "2026-01-31T00:00:00"}],
            ),
            ({"mean": np.float32(0.5), "all": np.array([1, 2])}, {"mean": 0.5, "all": [1, 2]}),
            (csr_matrix(np.eye(2)), [[1.0, 0.0], [0.0, 1.0]]),
            ("text", "text"),
        ],
        ids=["array", "2-d", "series", "frame", "dict", "sparse", "text"],
    )
    def test_become_rows(self, predictions, rows):
        assert json.loads(to_json(predictions)) == rows

    def test_missing_and_infinite_values_become_null(self):
        frame = pd.DataFrame({"x": [np.nan, np.inf], "y": pd.array([None, 1], "Int64"), "z": [pd.NaT, None]})

        text = to_json(frame)

        nulls = {"x": None, "y": None, "z": None}
        assert json.loads(text) == [nulls, {**nulls, "y": 1}]
        assert "NaN" not in text

    def test_a_type_that_json_cannot_represent_is_named(self):
        with pytest.raises(TypeError, match="JSON cannot represent a prediction of type object"):
            to_json([object()])
