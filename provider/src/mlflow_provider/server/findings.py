"""What can be wrong between a task and its artifacts in MLflow, and how to fix it.

An error carries a finding and the doctor reports it. ``python -m mlflow_provider.doctor.table`` lists all
that the doctor can report.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any


def clean(text: str) -> str:
    """Return a text for logs and terminals: without control characters, and without logins in addresses."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return re.sub(r"(?<=://)[^/?#\s]*@", "", printable)


@dataclass(frozen=True)
class Finding:
    """A cause of a failure, which reads as "finding; fix".

    :param code: its stable name, for programs.
    :param finding: what is wrong.
    :param fix: what to do about it; empty if that is unknown.
    :param place: the server or request where it was found. Last, because Airflow's pages cut long lines.
    """

    code: str
    finding: str
    fix: str = ""
    place: str = ""

    def format(self, **fields: Any) -> Finding:
        """Return the finding with its placeholders filled."""
        cleaned = {name: clean(str(value)) for name, value in fields.items()}
        return replace(self, finding=self.finding.format(**cleaned), fix=self.fix.format(**cleaned))

    def about(self, subject: str) -> Finding:
        """Return the finding with its subject in front, e.g. a host."""
        return replace(self, finding=f"{clean(subject)}: {self.finding}")

    def at(self, place: str) -> Finding:
        """Return the finding with the server or request where it was found."""
        return replace(self, place=clean(place))

    @property
    def cause(self) -> str:
        """What is wrong, and where."""
        return self._with_place(self.finding)

    def __str__(self) -> str:
        return self._with_place(f"{self.finding}; {self.fix}" if self.fix else self.finding)

    def _with_place(self, text: str) -> str:
        return f"{text.removesuffix('.')} ({self.place})" if self.place else text


UNEXPECTED = Finding("unexpected", "{message}")

# This provider
OTHER_INSTALLATION = Finding(
    "other-installation",
    "this provider is installed more than once, or in the discontinued version 1: {installed}",
    "remove airflow-provider-mlflow==1.1.0 from your requirements, run pip uninstall airflow-provider-mlflow "
    "until none is left, and install version 2",
)

# The connection
INVALID_FIELD = Finding("invalid-field", "Connection {conn_id!r}, field {field}: {problem}", "{fix}")

# The network
HOST_NOT_RESOLVED = Finding(
    "host-not-resolved", "host name cannot be resolved", "use one that workers can resolve"
)
CONNECTION_REFUSED = Finding(
    "connection-refused", "nothing listens on that port", "start the server, or correct Host and Port"
)
REFUSED_BY_THIS_MACHINE = Finding(
    "refused-by-this-machine",
    "nothing listens on that port of this machine or container",
    "start the server, or enter as Host the name of the machine or container where it runs",
)
NO_ROUTE = Finding(
    "no-route", "no route to host ({error})", "correct Host, or ask your network administrator for a route"
)
PROXY_UNREACHABLE = Finding(
    "proxy-unreachable",
    "the proxy {proxy} does not respond",
    "correct HTTP_PROXY and HTTPS_PROXY where tasks run, or exempt the server with NO_PROXY",
)
TIMED_OUT = Finding(
    "timed-out", "the server did not respond in time", "correct Host and Port, or raise timeout in Extra"
)
CONNECTION_CLOSED = Finding(
    "connection-closed",
    "connection closed without a response",
    "if the server uses HTTPS, start Host with https://; otherwise correct Port",
)
NOT_HTTPS = Finding(
    "not-https", "the server uses HTTP, not HTTPS", "start Host with http://, or correct Port"
)
CERTIFICATE_NOT_TRUSTED = Finding(
    "certificate-not-trusted",
    "the server's TLS certificate is not trusted",
    "set verify in Extra to the path of its CA bundle",
)
MALFORMED_RESPONSE = Finding(
    "malformed-response",
    "the response is not valid HTTP",
    "correct Host and Port, or check for a proxy that alters responses",
)
CERTIFICATE_FOR_OTHER_HOST = Finding(
    "certificate-for-other-host",
    "the server's TLS certificate is for another host name",
    "enter as Host a name in the certificate",
)
INVALID_HEADER = Finding(
    "invalid-header", "a header contains a line break or begins with a space", "correct its value"
)

# The server
REDIRECTED = Finding("redirected", "redirected to {url}", "enter that address as Host")
REDIRECTED_ELSEWHERE = Finding(
    "redirected-elsewhere",
    "redirected to {url}, which is not MLflow's API",
    "correct Host and Port, or ask for an address that does not redirect",
)
TOO_MANY_REQUESTS = Finding(
    "too-many-requests",
    "too many requests",
    "run fewer tasks at the same time, or raise retry_timeout in Extra",
)
UNAVAILABLE = Finding(
    "unavailable",
    "the server is down or overloaded, or a gateway in front of it does not reach it",
    "see its log, or raise retry_timeout in Extra",
)
# By status of a response without MLflow's error code, e.g. a page.
OF_GATEWAYS = {429: TOO_MANY_REQUESTS, 502: UNAVAILABLE, 503: UNAVAILABLE, 504: UNAVAILABLE}
NOT_MLFLOW = Finding(
    "not-mlflow", "this is not an MLflow server, or it does not support {request!r}", "correct Host and Port"
)
UNEXPECTED_ANSWER = Finding(
    "unexpected-answer", "unexpected response: {problem}", "check for a proxy that alters responses"
)
VERSIONS_DIFFER = Finding(
    "versions-differ",
    "the server runs MLflow {server}, but mlflow here is {client}",
    "install the same major version of both",
)
HOST_REJECTED = Finding(
    "host-rejected", "the server rejects the host name {host!r}", "add it to the server's --allowed-hosts"
)
RESPONSE_LOST = Finding(
    "response-lost",
    "MLflow failed, or its response was lost, and the mlflow package cannot repeat this request",
    "run the task again, or give it retries",
)
NOT_FOUND = Finding(
    "not-found", "{message}", "correct the name or ID, or the connection if it is on another server"
)

# The login
LOGIN_REQUIRED = Finding("login-required", "authentication required", "enter Login and Password")
LOGIN_REJECTED = Finding("login-rejected", "login rejected", "correct Login and Password")
AUTH_FAILED = Finding(
    "auth-failed",
    "auth {name!r} has no login for MLflow: {error}",
    "correct auth in Extra, or install and set up its provider where this runs",
)
LOGIN_PACKAGE_MISSING = Finding(
    "login-package-missing",
    "{login} requires the package {package}, which is not installed here",
    "install it where tasks run, in the triggerer and in the API server",
)
TOKEN_FILE_INVALID = Finding(
    "token-file-invalid",
    "token_file {path}: {problem}",
    "correct token_file in Extra, or check the program that writes the file",
)
TOKEN_URL_UNREACHABLE = Finding(
    "token-url-unreachable",
    "no token from {url}: {reason}",
    "correct token_url in Extra, or see the identity provider's log",
)
TOKEN_REFUSED = Finding(
    "token-refused",
    "{url} refuses a token: {reason}",
    "correct Login and Password, or scope and audience in Extra",
)
TOKEN_REJECTED = Finding(
    "token-rejected",
    "the server rejects {login}",
    "correct the login method in Extra, or let the server accept this login",
)
TOKEN_EXPIRED = Finding(
    "token-expired",
    "login rejected, because its token expired {seconds} seconds ago",
    "enter a new one, or check the program that renews it",
)
CLOCKS_DIFFER = Finding(
    "clocks-differ",
    "login rejected, and the clocks of this machine and of the server are {seconds} seconds apart",
    "synchronize them",
)
IDENTITY_UNAVAILABLE = Finding(
    "identity-unavailable",
    "this worker has no {identity} identity: {reason}",
    "give it one, or use another login",
)
CLIENT_CERTIFICATE_REJECTED = Finding(
    "client-certificate-rejected",
    "the server requires another client certificate ({reason})",
    "set client_cert in Extra to the path of a PEM file with a certificate that it accepts, and its key",
)
LOGIN_PAGE = Finding(
    "login-page",
    "a login page instead of MLflow's API ({url})",
    "enter a login that the gateway in front of MLflow accepts, e.g. auth google with its audience",
)
ACCESS_DENIED = Finding(
    "access-denied",
    "access denied: {message}",
    "ask the administrator of MLflow or of the gateway in front of it for access",
)
READ_ONLY = Finding(
    "read-only",
    "this login has no permission to write here",
    "ask MLflow's administrator for the permission EDIT, or use another login",
)
PERMISSION_DENIED = Finding(
    "permission-denied",
    "{message}",
    "ask MLflow's administrator for the permission, or use another login in the connection",
)
FORBIDDEN = Finding(
    "forbidden",
    "this login lacks the permission {permission} on {resource}",
    "ask MLflow's administrator for it, or use another login in the connection",
)
MISSING_OR_FORBIDDEN = Finding(
    "missing-or-forbidden",
    "{resource} does not exist, or this login lacks the permission READ on it",
    "correct the name, or ask MLflow's administrator for the permission",
)

# The experiment
EXPERIMENT_NOT_FOUND = Finding(
    "experiment-not-found",
    "experiment {name!r} does not exist",
    "correct the name, or run the task that creates it",
)
EXPERIMENT_DELETED = Finding(
    "experiment-deleted",
    "experiment {name!r} is deleted",
    "restore it on the server: mlflow experiments restore --experiment-id {id}",
)

REPLICA_LAGS = Finding(
    "replica-lags",
    "a search finds a new run only after {seconds} seconds, because the server reads from a lagging replica",
    "keep the lag below {tolerated} seconds, or start the server without --read-replica-backend-store-uri",
)
NO_LOGGED_MODELS = Finding(
    "no-logged-models",
    "the server does not support logged models, which log_model creates",
    "use save_model and mlflow.log_artifacts instead; such a model can be registered and loaded as usual",
)

# The artifact store behind the server
CLIENT_TOO_OLD = Finding(
    "client-too-old",
    "the server accepts no artifacts itself, and this mlflow is too old to write them to the server's store",
    "install mlflow {version} or later where tasks run",
)
STORE_NOT_REACHED = Finding(
    "store-not-reached",
    "this worker cannot upload to the artifact store, to which the server sends it",
    "make its address reachable from workers, or start the server without --artifacts-presigned-only",
)
ARTIFACTS_NOT_PROXIED = Finding(
    "artifacts-not-proxied",
    "artifacts of this experiment go through the server, but the server does not proxy artifacts",
    "start it with --serve-artifacts, or create a new experiment",
)
SERVER_STORE_FAILED = Finding(
    "server-store-failed", "MLflow cannot use its own artifact store", "see MLflow's log for the reason"
)
PASSWORD_NOT_ASCII = Finding(
    "password-not-ascii",
    "the password has non-ASCII characters, which MLflow rejects when it proxies artifacts",
    "choose another password",
)

# The artifact store that tasks reach themselves
STORE_PACKAGE_MISSING = Finding(
    "store-package-missing",
    "artifacts go to {location}, but {package} is not installed here",
    "install it where tasks run",
)
S3_KEYS_MISSING = Finding(
    "s3-keys-missing",
    "artifacts go to {location}, but no S3 keys are configured here",
    "set artifact_conn_id in Extra to a connection with the keys, or create a new experiment whose "
    "artifacts the server proxies",
)
STORE_UNREACHABLE = Finding(
    "store-unreachable",
    "the artifact store does not respond at {endpoint}",
    "start it, or correct endpoint_url in the artifact connection",
)
S3_KEYS_REJECTED = Finding(
    "s3-keys-rejected",
    "the artifact store rejects the keys ({code})",
    "correct Login and Password of the artifact connection",
)
ROLE_NOT_ASSUMED = Finding(
    "role-not-assumed",
    "the role of the artifact connection cannot be assumed ({code})",
    "correct role_arn or the keys of the artifact connection, or allow it in the role's trust policy",
)
PROFILE_MISSING = Finding(
    "profile-missing",
    "this worker has no AWS profile {profile!r}",
    "add it to ~/.aws/config where tasks run, or correct profile_name in the artifact connection",
)
GOOGLE_KEY_REJECTED = Finding(
    "google-key-rejected",
    "artifacts go to {location}, but Google's library finds no valid credentials here ({error})",
    "set artifact_conn_id in Extra to a connection with a valid key",
)
BUCKET_NOT_FOUND = Finding(
    "bucket-not-found",
    "the artifact store has no bucket {bucket!r}",
    "create it, or correct endpoint_url in the artifact connection",
)
WRONG_REGION = Finding(
    "wrong-region",
    "bucket {bucket!r} is in another region ({code})",
    "correct region_name in the artifact connection",
)
CLOCK_SKEW = Finding(
    "clock-skew",
    "the clocks of this machine and of the artifact store are out of sync",
    "synchronize them",
)
BUCKET_FORBIDDEN = Finding(
    "bucket-forbidden",
    "the keys may not list bucket {bucket!r} ({code})",
    "allow them to list, read and write it",
)

# The artifact
ARTIFACT_NOT_WRITTEN = Finding(
    "artifact-not-written",
    "cannot write an artifact to {location} ({error})",
    "give tasks the packages and credentials that this store needs",
)
ARTIFACT_ON_WORKER = Finding(
    "artifact-on-worker",
    "artifacts go to {location}, a folder that this worker does not share with the server",
    "start the server with --serve-artifacts, and create a new experiment",
)
ARTIFACT_NOT_LISTED = Finding(
    "artifact-not-listed",
    "the artifact is in the store, but the server does not list it ({error})",
    "give the server the keys of the store",
)
ARTIFACT_CHANGED = Finding(
    "artifact-changed",
    "the artifact that was read back differs from the one that was written",
    "check for a proxy that alters responses",
)
ARTIFACT_NOT_SHARED = Finding(
    "artifact-not-shared",
    "another process on this machine does not find the artifact at {location} ({error})",
    "start the server with --serve-artifacts, and create a new experiment",
)
NOT_DELETED = Finding(
    "not-deleted", "{what} was created but could not be deleted ({error})", "delete it yourself"
)

# The use of the mlflow package in a task
_USE_THE_CONNECTION = """\
use @task.mlflow, or wrap the code in "with MLflowBaseHook('mlflow_default').tracking():\""""
LOCAL_TRACKING_URI = Finding(
    "local-tracking-uri",
    "MLflow writes to {uri} on this worker, not to an MLflow server",
    _USE_THE_CONNECTION,
)
NOT_A_TRACKING_URI = Finding(
    "not-a-tracking-uri",
    "the tracking URI {uri!r} is not the address of an MLflow server",
    f"remove it, and {_USE_THE_CONNECTION}",
)
DATABRICKS_LOGIN_MISSING = Finding(
    "databricks-login-missing",
    "the tracking URI is 'databricks', but this worker has no login for Databricks",
    f"enter the workspace in the connection mlflow_default, and {_USE_THE_CONNECTION}",
)
MODEL_NOT_IN_RUN = Finding(
    "model-not-in-run",
    "run {run_id} has no artifact {path!r}",
    "if it is a model, which MLflow 3 stores separately, use runs:/{run_id}/{path}, or the model_uri that "
    "log_model returns",
)
ARTIFACT_NOT_FOUND = Finding(
    "artifact-not-found",
    "there is no artifact or model {path!r}",
    "correct its name, or log it in an earlier task; if MLflow shows it, run the DAG mlflow_doctor",
)
RUN_ID_MISSING = Finding(
    "run-id-missing",
    "the run ID is None",
    "return the run ID or the model URI from the task that creates it, and pass it to the next task",
)

# What tasks left behind
RUNS_ON_WORKER = Finding(
    "runs-on-worker",
    "{place} on this worker has runs that MLflow does not have, the newest {run_id}: a task logged without a "
    "tracking URI",
    "log inside @task.mlflow or MLflowBaseHook().tracking(), then delete {place}",
)
OPEN_RUNS = Finding(
    "open-runs",
    "runs still RUNNING in MLflow although their tasks have ended: {runs}",
    "run the DAG mlflow_doctor with close_open_runs, which ends them as KILLED",
)


_RUN_ARTIFACTS = r"\S+/(?P<run_id>[0-9a-f]{32})/artifacts"
_NOT_FOUND = r" #####\n.*(?i:not found|no such)"
# By patterns in the messages of MLflow's client, which has no error classes for these. The groups are the
# fields of the finding.
_PATTERNS = {
    r"Run with id=None not found|Missing value for required parameter 'run_id'": RUN_ID_MISSING,
    r"Exactly one of `run_id` or `artifact_uri` must be specified": RUN_ID_MISSING,
    r"unsupported URI '(?P<uri>[^']+)' for": NOT_A_TRACKING_URI,
    r"The filesystem tracking backend": LOCAL_TRACKING_URI.format(uri="a folder"),
    r"Could not find experiment with ID \d+\Z": LOCAL_TRACKING_URI.format(uri="a folder"),  # e.g. MLflow 3.9
    r"Reading Databricks credential configuration failed": DATABRICKS_LOGIN_MISSING,
    r"endpoint (?P<request>\S+) failed with error code (?:4\d\d|501) != 200\. Response body: '<": NOT_MLFLOW,
    rf"Invalid model version source: '{_RUN_ARTIFACTS}/(?P<path>[^']+)'": MODEL_NOT_IN_RUN,
    rf"artifacts from {_RUN_ARTIFACTS}:\n##### File (?P<path>\S+){_NOT_FOUND}": MODEL_NOT_IN_RUN,
    rf"artifacts from {_RUN_ARTIFACTS}/(?P<path>\S+):\n##### File MLmodel{_NOT_FOUND}": MODEL_NOT_IN_RUN,
    r"Upgrade your MLflow client to match this server \(MLflow (?P<version>[^)]+)": CLIENT_TOO_OLD,
    r"Failed to upload at least one part of": STORE_NOT_REACHED,
    r"endpoint /api/2.0/mlflow/logged-models failed with error code 40[45]": NO_LOGGED_MODELS,
    r"Failed to download artifacts from path '(?P<path>[^']+)'": ARTIFACT_NOT_FOUND,
    r"artifacts from (?P<location>s3:\S+):\n.*Unable to locate credentials": S3_KEYS_MISSING,
    r"/mlflow/\S+ failed with (?:error code 50[234]|exception (?!.*Max retries))": RESPONSE_LOST,
    r"IntegrityError.*UNIQUE constraint failed: inputs|IntegrityError.*input_uuid": RESPONSE_LOST,
    r"(?P<message>.* not found)\Z": NOT_FOUND,
    r"(?P<message>.*Permission denied'*)\Z": PERMISSION_DENIED,
}


def of_message(message: str) -> Finding:
    """Return the finding for a message of MLflow; :data:`UNEXPECTED` if its cause is unknown."""
    message = message.strip().removesuffix(".")
    for pattern, finding in _PATTERNS.items():
        if match := re.search(pattern, message, re.DOTALL):
            return finding.format(**match.groupdict())
    return UNEXPECTED.format(message=message)
