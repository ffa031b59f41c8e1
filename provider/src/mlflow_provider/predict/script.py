"""Load a model and apply it to data, in a task's process or in a separate one.

In a separate process this file is a script, run by the Python of a model's virtualenv, which has neither
Airflow nor this package::

    python predict.py MODEL REQUEST PREDICTIONS

MODEL is a folder, REQUEST and PREDICTIONS are JSON files. REQUEST contains Python's own types as JSON, and
arrays in numpy's ``.npy`` format, which is stable since 2007. A model therefore gets the same input as in the
task's process. Pickle would need the same pandas and numpy on both sides, Parquet would need pyarrow, and the
JSON of MLflow's model server loses types if a model has no signature.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# Column types that pandas creates from plain values and None. All versions have them, except for `str`.
_PLAIN_DTYPES = ("object", "str", "string", "boolean", "Int", "UInt", "Float")


def predict(model: str, data: Any, *, suppress_warnings: bool = False) -> str:
    """Load a model and return its predictions for the data.

    :param model: folder of the model.
    :param data: input of ``PyFuncModel.predict``: DataFrame, Series, array, sparse matrix, list or dict.
    :param suppress_warnings: suppress MLflow's warnings about the model.
    :return: JSON with a row per prediction. A row of a table is an object by column name.

    .. seealso:: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.pyfunc.html
    """
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(model, suppress_warnings=suppress_warnings)
    return to_json(loaded.predict(as_input(data, loaded.metadata.get_input_schema())))


def as_input(data: Any, schema: Any) -> Any:
    """Give data the column names and number types of the model's signature.

    Lists may come from JSON, which writes 1.0 as 1, and an array has one type for all columns. MLflow would
    reject such data: ``3.0`` for an integer, ``1`` for a boolean.

    :param schema: input schema of an ``mlflow.models.ModelSignature``; None without a signature.
    :raises ValueError: a number cannot be converted to the type in the signature without changing.
    """
    import numpy
    import pandas

    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        data = pandas.DataFrame(data)
    are_rows = isinstance(data, (list, numpy.ndarray))
    if not schema:
        return numpy.asarray(data) if are_rows else data
    if schema.is_tensor_spec() and are_rows:
        return _with_type(numpy.asarray(data), schema.inputs[0].type, "The input")
    if isinstance(data, pandas.Series):
        data = data.to_frame()
    types = {
        number if column.name is None else column.name: column.type
        for number, column in enumerate(schema.inputs)
    }
    if are_rows and numpy.ndim(data) == 2 and len(data[0]) == len(types):
        data = pandas.DataFrame(data, columns=list(types))
    return _with_types(data, types) if isinstance(data, (dict, pandas.DataFrame)) else data


def _with_types(table: pd.DataFrame | dict[str, Any], types: dict[Any, Any]) -> Any:
    import numpy
    import pandas

    table = table.copy()
    for name, mlflow_type in types.items():
        if name in table and isinstance(table[name], (list, numpy.ndarray, pandas.Series)):
            # The type of a tensor is numpy's already. Columns of lists or objects have no such type.
            dtype = mlflow_type.to_numpy() if hasattr(mlflow_type, "to_numpy") else mlflow_type
            table[name] = _with_type(table[name], dtype, f"Column {name!r}")
    return table


def _with_type(values: Any, dtype: Any, label: str) -> Any:
    """Cast numbers and booleans. MLflow handles everything else."""
    import numpy

    array = numpy.asarray(values.infer_objects() if hasattr(values, "infer_objects") else values)
    if array.dtype.kind not in "biuf" or getattr(dtype, "kind", "O") not in "biuf":
        return values
    with numpy.errstate(all="ignore"):  # values that do not fit are found below
        cast = array.astype(dtype)
    # Floats may be rounded and may be NaN, but a finite number must stay finite.
    same = numpy.isfinite(cast) == numpy.isfinite(array) if dtype.kind == "f" else cast == array
    if not same.all():
        raise ValueError(
            f"{label}, row {numpy.argwhere(~same)[0][0]}: the type in the model's signature, {dtype}, cannot "
            "hold this number. Convert the data first, or log the model with a signature for such data."
        )
    return cast


def to_json(predictions: Any) -> str:
    """Return predictions as JSON.

    :raises TypeError: the predictions contain a type that JSON cannot represent.
    """
    pandas = sys.modules.get("pandas")
    if pandas and isinstance(predictions, pandas.DataFrame):
        predictions = predictions.to_dict(orient="records")
    try:
        return json.dumps(predictions, default=_plain, allow_nan=False)
    except ValueError:  # JSON has neither NaN nor infinity
        text = json.dumps(predictions, default=_plain)
        return json.dumps(json.loads(text, parse_constant=lambda _: None))


def _plain(value: Any) -> Any:
    """Return a value as a type that JSON has."""
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    for method in ("toarray", "tolist", "isoformat"):  # sparse matrices; arrays, Series, scalars; times
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"JSON cannot represent a prediction of type {type(value).__name__}.")


def encode(value: Any) -> Any:
    """Return a model's input as types that JSON has, for :func:`decode`.

    :raises TypeError: the input contains a type that cannot be encoded.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [encode(element) for element in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(element) for element in value]}
    if isinstance(value, Mapping):
        return {"dict": [[encode(key), encode(element)] for key, element in value.items()]}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    # The value can only have a type of a package that has been imported.
    numpy, pandas, sparse = (sys.modules.get(name) for name in ("numpy", "pandas", "scipy.sparse"))
    if pandas and isinstance(value, pandas.DataFrame):
        columns = [_encode_series(value.iloc[:, position]) for position in range(value.shape[1])]
        return {"frame": [_encode_index(value.index), [encode(label) for label in value.columns], columns]}
    if pandas and isinstance(value, pandas.Series):
        return {"series": [_encode_index(value.index), _encode_series(value)]}
    if sparse and sparse.issparse(value):
        rows = value.tocsr()
        parts = [encode(part) for part in (rows.data, rows.indices, rows.indptr)]
        return {"sparse": [type(rows).__name__, list(rows.shape), *parts]}
    if numpy and isinstance(value, (numpy.ndarray, numpy.generic)):
        return _encode_array(value)
    raise TypeError(
        f"A {type(value).__name__} cannot be passed to a model in a virtualenv; convert it first."
    )


def _encode_array(array: np.ndarray | np.generic) -> Any:
    import numpy

    if array.dtype.hasobject:
        return {
            "objects": [encode(element) for element in array.ravel().tolist()],
            "shape": list(array.shape),
        }
    file = io.BytesIO()
    numpy.save(file, array, allow_pickle=False)
    return {"npy": base64.b64encode(file.getbuffer()).decode()}


def _encode_index(index: pd.Index) -> Any:
    if index.nlevels > 1:
        raise TypeError(
            "An index of several levels cannot be passed to a model in a virtualenv; use reset_index()."
        )
    return _encode_series(index.to_series())


def _encode_series(series: pd.Series) -> dict[str, Any]:
    import numpy

    dtype, name = series.dtype, encode(series.name)
    if str(dtype) == "category":
        categories = encode(series.cat.categories.to_numpy())
        values = {
            "codes": encode(series.cat.codes.to_numpy()),
            "categories": categories,
            "ordered": series.cat.ordered,
        }
    elif isinstance(dtype, numpy.dtype) and not dtype.hasobject:
        values = _encode_array(series.to_numpy())
    elif str(dtype).startswith(_PLAIN_DTYPES):
        if str(dtype) not in ("object", "str"):  # which have their own object for a missing value
            series = series.astype(object).where(series.notna(), None)
        values = {"values": [encode(value) for value in series.tolist()], "dtype": str(dtype)}
    else:
        raise TypeError(
            f"Column {series.name!r} of type {dtype} cannot be passed to a model in a virtualenv; "
            "convert it first."
        )
    return {**values, "name": name}


def decode(value: Any) -> Any:
    """Return a model's input from the result of :func:`encode`."""
    if isinstance(value, list):
        return [decode(element) for element in value]
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(decode(value["tuple"]))
    if "dict" in value:
        return {decode(key): decode(element) for key, element in value["dict"]}
    if "bytes" in value:
        return base64.b64decode(value["bytes"])
    if "frame" in value:
        return _decode_frame(*value["frame"])
    if "series" in value:
        index, series = value["series"]
        return _decode_series(series, index)
    if "sparse" in value:
        import scipy.sparse

        name, shape, *parts = value["sparse"]
        return getattr(scipy.sparse, name)(tuple(map(decode, parts)), shape=shape)
    return _decode_array(value)


def _decode_array(value: dict[str, Any]) -> np.ndarray:
    import numpy

    if "npy" in value:
        array = numpy.load(io.BytesIO(base64.b64decode(value["npy"])), allow_pickle=False)
        return array if array.shape else array[()]
    array = numpy.empty(len(value["objects"]), dtype=object)
    array[:] = decode(value["objects"])
    return array.reshape(value["shape"])


def _decode_frame(index: Any, labels: list[Any], columns: list[Any]) -> pd.DataFrame:
    import pandas

    series = [_decode_series(column) for column in columns]
    # By position, because labels may repeat.
    frame = pandas.DataFrame(dict(enumerate(series)))
    frame.columns = pandas.Index(decode(labels))
    frame.index = pandas.Index(_decode_series(index))
    return frame


def _decode_series(value: dict[str, Any], index: Any = None) -> pd.Series:
    import pandas

    if "codes" in value:
        codes, categories = decode(value["codes"]), decode(value["categories"])
        values = pandas.Categorical.from_codes(codes, categories, ordered=value["ordered"])
        series = pandas.Series(values)
    elif "npy" in value:
        series = pandas.Series(_decode_array(value))
    else:
        # pandas 3 calls its text columns `str`. In earlier versions that name turns None into text.
        is_text = value["dtype"] == "str" and int(pandas.__version__.split(".")[0]) < 3
        series = pandas.Series(decode(value["values"]), dtype="object" if is_text else value["dtype"])
    series.name = decode(value["name"])
    if index is not None:
        series.index = pandas.Index(_decode_series(index))
    return series


def write_request(file: Path, data: Any) -> None:
    """Write the script's REQUEST file.

    :raises TypeError: the data contains a type that cannot be encoded.
    """
    file.write_text(json.dumps(encode(data)))


def main(model: str, request_file: str, predictions_file: str) -> None:
    """Predict, and write the predictions to a file."""
    data = decode(json.loads(Path(request_file).read_text()))
    # The requirements are met here. MLflow would check them again, which takes half a second.
    Path(predictions_file).write_text(predict(model, data, suppress_warnings=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
