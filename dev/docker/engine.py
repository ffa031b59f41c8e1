"""A Docker engine: the machine's, or our own from Debian's packages.

Our own is unpacked, not installed, into ``.local/docker``, and keeps its images there. The machine's packages
and containers stay unchanged.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL

from dev import MissingError
from local_stack.settings import LOCAL, ROOT

HOME = LOCAL / "docker"
UNPACKED = HOME / "engine"
# A socket's path may have 107 characters, and the project may be in a deeper folder than that.
RUN = Path(tempfile.gettempdir()) / f"docker-{hashlib.sha256(bytes(ROOT)).hexdigest()[:8]}"
PACKAGES = ("docker.io", "iptables", "cgroupfs-mount", "debootstrap")
# Bookworm has Compose 1, which rejects the Astro CLI's file, and a Go that is too old for MinIO.
NEWER_SUITE = "forky"
DEBIAN = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Docker:
    """The Docker command line and its engine.

    :param environment: added to the process's own.
    :param is_ours: whether the engine is ours, which has stand-ins under the names of real images. Any other
        engine pulls the real images from their registries.
    """

    environment: dict[str, str] = field(default_factory=dict)
    is_ours: bool = False

    def __call__(self, *arguments: str | Path, check: bool = True, **environment: str) -> str:
        """Run ``docker`` with the arguments and return its output.

        :raises AssertionError: it failed, unless ``check`` is False.
        """
        process = subprocess.run(
            ["docker", *map(str, arguments)],
            env={**os.environ, **self.environment, **environment},
            cwd=ROOT,
            stdin=DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or process.returncode == 0, (
            f"docker {' '.join(map(str, arguments))}\n{process.stdout}"
        )
        return process.stdout


@contextmanager
def engine() -> Iterator[Docker]:
    """Yield the machine's engine, or start and stop our own.

    :raises MissingError: there is none, and this machine cannot run our own.
    """
    docker = Docker()
    if shutil.which("docker") and subprocess.call(["docker", "info"], stdout=DEVNULL, stderr=DEVNULL) == 0:
        docker("compose", "version")
        print("Docker: the engine of this machine, with the real images", flush=True)
        yield docker
        return
    if not can_unpack():
        raise MissingError(
            "No Docker engine answers. Start one (Docker Desktop, or systemctl start docker), or run this as "
            "root on Debian 12 (x86-64), which can run our own."
        )
    if not UNPACKED.exists():
        print("Docker: unpacking Debian's packages", flush=True)
        _unpack()
    with _our_own() as docker:
        yield docker


def can_unpack() -> bool:
    """Tell whether programs unpacked from Debian's packages run here: as root on Debian 12 (x86-64)."""
    release = Path("/etc/os-release")
    is_bookworm = release.exists() and "VERSION_CODENAME=bookworm" in release.read_text().splitlines()
    return is_bookworm and os.geteuid() == 0 and platform.machine() == "x86_64"


def apt(suite: str, *arguments: str, folder: Path) -> None:
    """Run apt-get in a folder, with the suite's package lists in ``.local/docker``.

    :raises MissingError: Debian's mirror does not answer.
    """
    lists = HOME / "lists" / suite
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    sources = HOME / f"{suite}.list"
    suites = [suite] if suite == NEWER_SUITE else [suite, f"{suite}-updates"]
    sources.write_text("".join(f"deb [signed-by={KEYRING}] {DEBIAN} {name} main\n" for name in suites))
    options = {
        "Dir::State::lists": lists,
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::Cache": folder,
        "Dir::Cache::archives": folder,
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "true",
        "Acquire::Retries": "3",
    }
    command = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    for step in (["update"], [*arguments]):
        process = subprocess.run([*command, *step], cwd=folder, capture_output=True, text=True, check=False)
        if process.returncode:
            raise MissingError(f"apt-get {' '.join(step)} failed; is {DEBIAN} reachable?\n{process.stderr}")


def unpack(folder: Path, pattern: str, into: Path) -> None:
    """Unpack the packages in a folder whose file names match the pattern."""
    for package in folder.glob(pattern):
        subprocess.run(["dpkg", "-x", package, into], check=True)


def _unpack() -> None:
    """Unpack the packages that apt finds missing on this machine."""
    with tempfile.TemporaryDirectory(dir=_made(HOME)) as name:
        folder, root = Path(name), Path(name, "root")
        (folder / "partial").mkdir()
        options = ("--yes", "--download-only", "--no-install-recommends")
        apt("bookworm", "install", *options, *PACKAGES, folder=folder)
        apt(NEWER_SUITE, "download", "docker-compose", folder=folder)
        unpack(folder, "*.deb", root)
        for tool in ("iptables", "ip6tables"):  # links that an installation would make
            if not shutil.which(tool):
                (root / "usr/sbin" / tool).symlink_to(f"{tool}-nft")
        plugins = _made(root / "config" / "cli-plugins")
        (plugins / "docker-compose").symlink_to(UNPACKED / "usr/libexec/docker/cli-plugins/docker-compose")
        root.rename(UNPACKED)


@contextmanager
def _our_own() -> Iterator[Docker]:
    libraries = UNPACKED / "usr/lib/x86_64-linux-gnu"
    socket = f"unix://{_made(RUN)}/docker.sock"
    docker = Docker(
        {
            "PATH": f"{UNPACKED}/usr/sbin:{UNPACKED}/usr/bin:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": str(libraries),
            "XTABLES_LIBDIR": f"{libraries}/xtables:/usr/{libraries.relative_to(UNPACKED / 'usr')}/xtables",
            "DOCKER_HOST": socket,
            "DOCKER_CONFIG": str(UNPACKED / "config"),
            "DOCKER_BUILDKIT": "1",
        },
        is_ours=True,
    )
    environment = {**os.environ, **docker.environment}
    subprocess.run(["cgroupfs-mount"], env=environment, check=False)
    command = ["dockerd", f"--host={socket}", f"--data-root={HOME}/data", f"--exec-root={RUN}/exec"]
    with (HOME / "dockerd.log").open("w") as log:
        daemon = subprocess.Popen(
            [*command, f"--pidfile={RUN}/pid"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        for _ in range(300):
            if "Server Version" in docker("info", check=False):
                break
            if daemon.poll() is not None:
                break
            time.sleep(0.2)
        else:
            daemon.kill()
        if daemon.poll() is not None:
            tail = (HOME / "dockerd.log").read_text()[-2000:]
            raise RuntimeError(f"Our Docker engine does not start:\n{tail}")
        driver = docker("info", "--format={{.Driver}}").strip()
        print(f"Docker: our own engine at {socket}, storage driver {driver}", flush=True)
        yield docker
    finally:
        daemon.terminate()
        daemon.wait(timeout=60)
        # Docker leaves it mounted on itself, so that it could not be deleted.
        subprocess.run(["umount", HOME / "data"], capture_output=True, check=False)
        shutil.rmtree(RUN, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
