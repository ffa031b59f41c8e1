"""Findings for errors of the ``mlflow`` package, and of the artifact store that it uses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow_provider.exceptions import chain
from mlflow_provider.server import findings

if TYPE_CHECKING:
    from mlflow_provider.server.findings import Finding

S3_FINDINGS = {
    "InvalidAccessKeyId": findings.S3_KEYS_REJECTED,
    "SignatureDoesNotMatch": findings.S3_KEYS_REJECTED,
    "InvalidToken": findings.S3_KEYS_REJECTED,
    "ExpiredToken": findings.S3_KEYS_REJECTED,
    "NoSuchBucket": findings.BUCKET_NOT_FOUND,
    "AuthorizationHeaderMalformed": findings.WRONG_REGION,
    "PermanentRedirect": findings.WRONG_REGION,
    "RequestTimeTooSkewed": findings.CLOCK_SKEW,
}
# MLflow's client has no error class for a server that fails: the text after all retries, or after none.
SERVER_FAILED = re.compile(r"/mlflow-artifacts/.*too many 500|^500 .*/mlflow-artifacts/", re.DOTALL)


def cause_of(error: BaseException, location: str = "the artifact store") -> Finding | None:
    """Return what caused an error; None if that is unknown.

    :param error: of the ``mlflow`` package or of ``boto3``, or one that was raised from it.
    :param location: where the artifact is, or was to go, e.g. ``s3://bucket/1/<run ID>/artifacts``.
    """
    for each in chain(error):
        if type(each).__module__.startswith("botocore."):
            return _cause_at_s3(each, location)
        if SERVER_FAILED.search(str(each)):
            return findings.SERVER_STORE_FAILED
        is_of_mlflow = type(each).__module__.startswith("mlflow.") or "/mlflow-artifacts/" in str(each)
        if is_of_mlflow and (finding := findings.of_message(str(each))).fix:
            return finding
    return None


def _cause_at_s3(error: Any, location: str) -> Finding | None:
    # boto3 may be missing, but not if one of its errors was raised.
    from botocore import exceptions

    no_keys = exceptions.NoCredentialsError, exceptions.PartialCredentialsError
    if isinstance(error, (*no_keys, exceptions.CredentialRetrievalError)):
        return findings.S3_KEYS_MISSING.format(location=location)
    if isinstance(error, exceptions.ProfileNotFound):
        return findings.PROFILE_MISSING.format(profile=error.kwargs["profile"])
    if isinstance(error, exceptions.InvalidConfigError):
        source = re.search('source_profile "(?P<profile>[^"]+)".*does not exist', str(error))
        return source and findings.PROFILE_MISSING.format(**source.groupdict())
    if isinstance(error, exceptions.ClientError):
        code = error.response["Error"]["Code"]
        if error.operation_name.startswith("AssumeRole"):
            return findings.ROLE_NOT_ASSUMED.format(code=code)
        finding = S3_FINDINGS.get(code)
        return finding and finding.format(
            code=code, bucket=error.response["Error"].get("BucketName") or urlsplit(location).netloc
        )
    if isinstance(error, exceptions.BotoCoreError) and (endpoint := error.kwargs.get("endpoint_url")):
        return findings.STORE_UNREACHABLE.format(endpoint=_address(endpoint))
    return None


def _address(url: str) -> str:
    """Return a URL without its path and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
