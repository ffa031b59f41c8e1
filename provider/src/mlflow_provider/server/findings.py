"""What can be wrong between a task and its artifacts in MLflow, and what to do about it.

Each is a sentence: the cause, a semicolon, the cure. Errors end with it, the doctor shows it, and the table
of all of them (``python -m mlflow_provider.doctor.table``) is made of it.
"""

from __future__ import annotations

# The connection
FIELD = "Connection {conn_id!r}, field {field}: {problem}"  # which ends with what to enter

# The way to the server
UNKNOWN_HOST = "its host name is unknown here; enter one that is known where tasks run"
REFUSED = "nothing listens on that port; start the server, or correct Host and Port"
LOOPBACK = (
    "nothing listens on that port of this machine or container itself; start the server, or enter as Host "
    "the name of the machine or container where it runs"
)
NO_WAY = "no way leads there from here ({error}); correct Host, or ask for a way to it"
DEAD_PROXY = (
    "the proxy {proxy} on the way does not answer; correct HTTP_PROXY and HTTPS_PROXY where tasks run, "
    "or exempt the server by NO_PROXY"
)
TIMED_OUT = "it did not respond in time; correct Host and Port, or raise Extra, timeout"
HANGS_UP = "it hangs up without an answer; begin Host with https:// if it speaks that, or correct Port"
SPEAKS_HTTP = "it speaks http, not https; begin Host with http://, or correct Port"
UNTRUSTED = "its TLS certificate is not trusted; enter the path of its CA bundle in Extra, verify"

# The server
REDIRECTED = "redirected to {url}; enter that as Host"
REDIRECTED_ELSEWHERE = (
    "redirected to {url}, which is not MLflow's API; correct Host and Port, or ask for a way around that"
)
NOT_MLFLOW = "this is not an MLflow server, or one without {request!r}; correct Host and Port"
OTHER_MAJOR_VERSION = (
    "the server is MLflow {server}, and mlflow-skinny here is {client}; install the same major version of "
    "both"
)
UNKNOWN_TO_ITSELF = "the server does not know itself as {host!r}; add that to its --allowed-hosts"

# The login
NO_LOGIN = "it wants a login; enter Login and Password"
WRONG_LOGIN = "the login is not accepted; correct Login and Password"
READ_ONLY = (
    "the login is accepted, but may not write here; ask MLflow's administrator for the permission EDIT, "
    "or enter another login"
)

# The experiment
NO_EXPERIMENT = "there is no experiment {name!r}; correct the name, or run the task that creates it"
DELETED_EXPERIMENT = (
    "experiment {name!r} is deleted; restore it on the server: mlflow experiments restore "
    "--experiment-id {id}"
)

# The artifact store behind the server
NOT_SERVED = (
    "artifacts of this experiment pass through the server, which does not pass any on; start it with "
    "--serve-artifacts, or make a new experiment"
)
SERVER_STORE_FAILS = "MLflow cannot use its own artifact store; read MLflow's log, which says why"
NOT_ASCII = (
    "the password is not ASCII, which MLflow accepts everywhere but where it passes artifacts on; choose "
    "another password"
)

# The artifact store that tasks reach themselves
NO_BOTO3 = "artifacts go to {location}, and boto3 is not installed here; install it where tasks run"
NO_KEYS = (
    "artifacts go to {location}, and there are no keys for S3 here; name a connection that holds them in "
    "Extra, artifact_conn_id, or make a new experiment whose artifacts the server passes on"
)
STORE_UNREACHABLE = (
    "the artifact store does not answer at {endpoint}; start it, or correct endpoint_url in the artifact "
    "connection"
)
WRONG_KEYS = (
    "the artifact store does not accept the keys ({code}); correct Login and Password of the artifact "
    "connection"
)
NO_BUCKET = (
    "the artifact store has no bucket {bucket!r}; create it, or correct endpoint_url in the artifact "
    "connection"
)
WRONG_REGION = (
    "bucket {bucket!r} is in another region ({code}); correct region_name in the artifact connection"
)
CLOCK_SKEW = "the clocks here and in the artifact store differ too much; set the wrong one"
STORE_FORBIDS = "the keys may not list bucket {bucket!r} ({code}); allow them to list, read and write it"

# The artifact
NOT_WRITTEN = "an artifact cannot be written to {location} ({error}); give tasks what that store asks for"
OWN_DISK = (
    "artifacts go to {location}, a folder that is not the same here as on the server, so they stay on this "
    "worker's disk; start the server with --serve-artifacts, and make a new experiment"
)
NOT_LISTED = (
    "the artifact is in the store, but the server does not list it ({error}); give the server the keys of "
    "the store, too"
)
CHANGED = "the artifact that came back is not the one that was written; look at what is on the way"
NOT_HANDED_ON = (
    "another process here does not find the artifact at {location} ({error}); start the server with "
    "--serve-artifacts, and make a new experiment"
)
NOT_DELETED = "{what} was made and cannot be deleted again ({error}); delete it yourself"

# What tasks have left
LOST_RUNS = (
    "{place} on this worker holds runs that MLflow does not know, the newest {run_id}: a task logged "
    "without a tracking URI; log inside @task.mlflow or MLflowBaseHook().tracking(), then delete that"
)
OPEN_RUNS = (
    "RUNNING in MLflow, though their tasks have ended: {runs}; run the DAG mlflow_doctor with "
    "close_open_runs, which ends them as KILLED"
)
