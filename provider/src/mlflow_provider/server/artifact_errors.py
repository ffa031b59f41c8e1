"""What an error of an artifact store means, in the words of :mod:`mlflow_provider.server.findings`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from mlflow_provider.server import findings as causes

S3_CAUSES = {
    "InvalidAccessKeyId": causes.WRONG_KEYS,
    "SignatureDoesNotMatch": causes.WRONG_KEYS,
    "InvalidToken": causes.WRONG_KEYS,
    "ExpiredToken": causes.WRONG_KEYS,
    "NoSuchBucket": causes.NO_BUCKET,
    "AuthorizationHeaderMalformed": causes.WRONG_REGION,
    "PermanentRedirect": causes.WRONG_REGION,
    "RequestTimeTooSkewed": causes.CLOCK_SKEW,
}
# How MLflow's client says that the server failed at an artifact: after all tries, or after the only one.
SERVER_FAILED = re.compile(r"/mlflow-artifacts/.*too many 500|^500 .*/mlflow-artifacts/", re.DOTALL)


def cause_of(error: BaseException, location: str) -> str | None:
    """Return what is wrong with an artifact store and what to do about it; None if that is not known.

    :param error: of the ``mlflow`` package or of ``boto3``, or one that was raised because of it.
    :param location: where the artifact is, or was to go, e.g. ``s3://bucket/1/<run ID>/artifacts``.
    """
    for each in _chain(error):
        if type(each).__module__.startswith("botocore."):
            return _cause_of_s3(each, location)
        if SERVER_FAILED.search(str(each)):
            return causes.SERVER_STORE_FAILS
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and what it was raised because of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _cause_of_s3(error: Any, location: str) -> str | None:
    # By their names, as boto3 need not be installed.
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return causes.NO_KEYS.format(location=location)
    if response := getattr(error, "response", None):
        code = response["Error"]["Code"]
        cause = S3_CAUSES.get(code)
        return cause and cause.format(code=code, bucket=urlsplit(location).netloc)
    endpoint = error.kwargs.get("endpoint_url")
    return endpoint and causes.STORE_UNREACHABLE.format(endpoint=_address(endpoint))


def _address(url: str) -> str:
    """Return a URL without what it names on the server."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
