"""The shapes of MLflow's answers, as far as this provider reads them."""

from __future__ import annotations

import re
import reprlib
from typing import Any

# A field with a question mark may be missing or null. MLflow gives NaN and large integers as text.
_TEXT = re.compile(r"[^\ud800-\udfff]*")  # JSON may contain half of a surrogate pair, which cannot be written
_NUMBER = re.compile(r"[0-9]{1,18}")
_EXPERIMENT = {"experiment_id": _TEXT, "name": _TEXT, "lifecycle_stage": _TEXT}
_METRIC = {"key": _TEXT, "value": float, "timestamp": int, "step?": int, "run_id?": _TEXT}
_TAG = {"key": _TEXT, "value": _TEXT}
_STATUS = re.compile("SCHEDULED|RUNNING|FINISHED|FAILED|KILLED")
_RUN_INFO = dict.fromkeys(("run_id", "experiment_id", "run_name?", "artifact_uri"), _TEXT)
_RUN = {
    "info": {**_RUN_INFO, "status": _STATUS, "start_time?": int, "end_time?": int},
    "data?": {"tags?": [_TAG], "metrics?": [_METRIC]},
    "outputs?": {"model_outputs?": [{"model_id": re.compile(r"m-\w+"), "step?": int}]},
}
_LOGGED_MODEL = {"info": {"name": _TEXT, "artifact_uri": _TEXT}, "data?": {"metrics?": [_METRIC]}}
_REGISTERED_MODEL = {
    "name": _TEXT,
    "creation_timestamp": int,
    "tags?": [_TAG],
    "aliases?": [{"alias": _TEXT, "version": _NUMBER}],
    "latest_versions?": [{"version": _NUMBER}],
}
_VERSION = {"name": _TEXT, "version": _NUMBER, "source?": _TEXT, "run_id?": _TEXT, "tags?": [_TAG]}
_SHAPES = {
    "POST experiments/create": {"experiment_id": _TEXT},
    "GET experiments/get": {"experiment": _EXPERIMENT},
    "GET experiments/get-by-name": {"experiment": _EXPERIMENT},
    "POST experiments/search": {"experiments?": [_EXPERIMENT], "next_page_token?": _TEXT},
    "POST runs/create": {"run": _RUN},
    "GET runs/get": {"run": _RUN},
    "POST runs/search": {"runs?": [_RUN], "next_page_token?": _TEXT},
    "POST runs/update": {"run_info": {"status": _STATUS}},
    "GET metrics/get-history": {"metrics?": [_METRIC]},
    "GET artifacts/list": {"files?": [{"path": _TEXT}]},
    "GET logged-models": {"model": _LOGGED_MODEL},
    "GET registered-models/get": {"registered_model": _REGISTERED_MODEL},
    "GET registered-models/search": {"registered_models?": [_REGISTERED_MODEL], "next_page_token?": _TEXT},
    "GET registered-models/alias": {"model_version": _VERSION},
    "POST registered-models/get-latest-versions": {"model_versions?": [_VERSION]},
    "POST model-versions/create": {"model_version": _VERSION},
    "GET model-versions/get": {"model_version": _VERSION},
    "PATCH model-versions/update": {"model_version": _VERSION},
    "POST model-versions/transition-stage": {"model_version": _VERSION},
    "GET model-versions/search": {"model_versions?": [_VERSION], "next_page_token?": _TEXT},
}


def check(request: str, answer: dict[str, Any]) -> None:
    """Check an answer that this provider reads, and remove its optional fields that are null.

    :param request: method and path, e.g. ``GET runs/get``.
    :raises ValueError: a field is missing or has the wrong type.
    """
    _check(answer, _SHAPES.get(re.sub(r"/m-\w+$", "", request), {}), "")


def _check(value: Any, shape: Any, place: str) -> None:
    if isinstance(shape, dict) and isinstance(value, dict):
        for name, inner in shape.items():
            field = name.removesuffix("?")
            if name != field and value.get(field) is None:
                value.pop(field, None)
            elif field in value:
                _check(value[field], inner, f"{place}.{field}")
            else:
                raise ValueError(f"{place}.{field} is missing".lstrip("."))
    elif isinstance(shape, list) and isinstance(value, list):
        for each in value:
            _check(each, shape[0], place)
    elif isinstance(shape, (dict, list)) or not _is(value, shape):
        raise ValueError(f"{place} is {reprlib.repr(value)}".lstrip("."))


def _is(value: Any, kind: Any) -> bool:
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return kind is float or abs(number) < 2**63
