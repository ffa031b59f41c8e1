"""Install what is missing, then go on in the project's own environment."""

import os
import sys

from local.install import RUN, install
from local.settings import ROOT, VENV, WITH_MINIO, LocalError

PYTHON = VENV / "bin" / "python"

if sys.argv[1:2] in (["up"], ["demo"]):
    try:
        install(RUN)
    except LocalError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Interrupted; nothing was started.")
elif not PYTHON.exists():
    print("Nothing is installed yet, so nothing runs; `make up` does both.")
    sys.exit(sys.argv[1:2] != ["down"])

# What the shell says about another Airflow, MLflow, object store or Python must not reach this one.
foreign = ("AIRFLOW_", "AWS_", "MINIO_", "MLFLOW_", "PYTHON")
environment = {
    name: value
    for name, value in os.environ.items()
    if name in WITH_MINIO.variables() or not name.startswith(foreign)
}
# Everything it asks is on this machine, whatever proxy the shell has for the rest of the world.
exempt = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
environment["no_proxy"] = environment["NO_PROXY"] = ",".join(filter(None, [exempt, "localhost", "127.0.0.1"]))

os.chdir(ROOT)
os.execve(PYTHON, [str(PYTHON), "-m", "local.cli", *sys.argv[1:]], environment)
