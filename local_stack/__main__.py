"""Check the settings, install what is missing, then run the command in the project's own environment."""

import os
import subprocess
import sys

from local_stack import install, mlflow_login, ports
from local_stack.settings import ROOT, TEMPORARY, VARIABLES, VENV, LocalError, is_up

PYTHON = VENV / "bin" / "python"


def environment() -> dict[str, str]:
    """Return the shell's environment without variables meant for another Airflow, MLflow or Python."""
    foreign = ("AIRFLOW_", "AWS_", "MINIO_", "MLFLOW_", "PYTHON")
    variables = {
        name: value for name, value in os.environ.items() if name in VARIABLES or not name.startswith(foreign)
    }
    variables["TMPDIR"] = str(TEMPORARY)  # removed when the stack stops
    # Every request stays on this machine, even if the shell has a proxy.
    exempt = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    variables["no_proxy"] = variables["NO_PROXY"] = ",".join(filter(None, [exempt, "localhost", "127.0.0.1"]))
    return variables


def prepare() -> None:
    """Check the shell's settings, and install what is missing.

    :raises LocalError: a port is not available, a setting is invalid, or a package cannot be installed.
    """
    ports.read_settings(check_free=not is_up())
    mlflow_login.read_setting()
    if is_up() and not all(step.is_done() for step in install.RUN):
        # Stop everything before changing its environment.
        print("The project has changed since the stack was started; stopping it", flush=True)
        subprocess.run([PYTHON, "-m", "local_stack.cli", "down"], env=environment(), check=False)
    install.install(install.RUN)


def main() -> None:
    """Run the command given in the arguments."""
    os.chdir(ROOT)
    if sys.argv[1:2] in (["up"], ["demo"]):
        prepare()
    elif not all(step.installed_version() for step in install.RUN):
        print("Nothing is installed yet. Run `make up` to install and start everything.")
        return
    os.execve(PYTHON, [str(PYTHON), "-m", "local_stack.cli", *sys.argv[1:]], environment())


try:
    main()
except LocalError as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    sys.exit("Interrupted. Nothing was started; run `make up` again to continue.")
