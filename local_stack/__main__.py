"""Check what a person asks for and install what is missing, then go on in the project's own environment."""

import os
import subprocess
import sys

from local_stack import install, mlflow_login, ports
from local_stack.settings import ROOT, TEMPORARY, VENV, LocalError, is_up

PYTHON = VENV / "bin" / "python"


def environment() -> dict[str, str]:
    """Return the shell's environment without what is meant for another Airflow, MLflow or Python."""
    foreign = ("AIRFLOW_", "AWS_", "MINIO_", "MLFLOW_", "PYTHON")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in (*ports.WITH_MINIO.variables(), "MLFLOW_AUTH") or not name.startswith(foreign)
    }
    kept["TMPDIR"] = str(TEMPORARY)  # of which nothing is left when the stack is down
    # Everything it asks is on this machine, whatever proxy the shell has for the rest of the world.
    exempt = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    kept["no_proxy"] = kept["NO_PROXY"] = ",".join(filter(None, [exempt, "localhost", "127.0.0.1"]))
    return kept


def prepare() -> None:
    """Make sure that what the shell asks for can be done, and that everything is installed.

    :raises LocalError: a port cannot be used, a setting is wrong, or something cannot be installed.
    """
    ports.named(free=not is_up())
    mlflow_login.wanted()
    if is_up() and not all(step.is_done() for step in install.RUN):
        # Nothing may run from an environment that changes.
        print("The project has changed since the stack was started; stopping it", flush=True)
        subprocess.run([PYTHON, "-m", "local_stack.cli", "down"], env=environment(), check=False)
    install.install(install.RUN)


def main() -> None:
    """Run the command that the arguments name."""
    os.chdir(ROOT)
    if sys.argv[1:2] in (["up"], ["demo"]):
        prepare()
    elif not all(step.installed() for step in install.RUN):
        print("Nothing is installed yet, so nothing runs; `make up` does both.")
        return
    os.execve(PYTHON, [str(PYTHON), "-m", "local_stack.cli", *sys.argv[1:]], environment())


try:
    main()
except LocalError as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    sys.exit("Interrupted; nothing was started. `make up` goes on where this stopped.")
