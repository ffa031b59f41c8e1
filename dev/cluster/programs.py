"""Kubernetes' programs: compiled from the Go module proxy, or unpacked from Debian's packages.

They are kept in ``.local/kubernetes``; nothing is installed on the machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from dev import MissingError
from dev.docker.build_images import go
from dev.docker.engine import apt, can_unpack, unpack
from local_stack.settings import LOCAL

HOME = LOCAL / "kubernetes"
BIN = HOME / "bin"
DEBIAN = HOME / "debian"
KUBERNETES = "1.34.2"
COMMANDS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
PACKAGES = (
    "cgroupfs-mount",
    "containerd",
    "containernetworking-plugins",
    "etcd-server",
    "iptables",
    "runc",
)
MODULE = Path(__file__).with_name("programs.go")


def make() -> None:
    """Compile and unpack what is missing; if another process is doing so, wait for it.

    :raises MissingError: this machine cannot run them.
    """
    if not can_unpack():
        raise MissingError(
            "Set KUBECONFIG, or run this as root on Debian 12 (x86-64), where a cluster can be built."
        )
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not DEBIAN.exists():
            _unpack()
        if not all((BIN / name).exists() for name in COMMANDS):
            _compile()


def environment() -> dict[str, str]:
    """Return an environment with the programs on its PATH."""
    libraries = DEBIAN / "usr/lib/x86_64-linux-gnu"
    folders = [BIN, *(DEBIAN / name for name in ("usr/sbin", "usr/bin", "sbin", "bin")), os.environ["PATH"]]
    return {
        **os.environ,
        "PATH": ":".join(map(str, folders)),
        "LD_LIBRARY_PATH": str(libraries),
        "XTABLES_LIBDIR": f"{libraries}/xtables:/usr/lib/x86_64-linux-gnu/xtables",
    }


def _unpack() -> None:
    print("Kubernetes: unpacking Debian's packages", flush=True)
    with tempfile.TemporaryDirectory(dir=HOME) as name:
        folder, root = Path(name), Path(name, "root")
        (folder / "partial").mkdir()
        # apt knows what is installed here, and downloads only the rest.
        options = ("--yes", "--download-only", "--no-install-recommends", "--reinstall")
        apt("bookworm", "install", *options, *PACKAGES, folder=folder)
        unpack(folder, "*.deb", root)
        for tool in (
            "iptables",
            "iptables-save",
            "iptables-restore",
        ):  # links, as installed
            for each in (tool, tool.replace("iptables", "ip6tables")):
                (root / "usr/sbin" / each).unlink(missing_ok=True)
                (root / "usr/sbin" / each).symlink_to("xtables-nft-multi")
        root.rename(DEBIAN)


def _compile() -> None:
    """Compile the commands in a module that repeats the replacements of Kubernetes' own module."""
    began = time.monotonic()
    print("Compiling Kubernetes, which takes about ten minutes", flush=True)
    BIN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as name, go() as command:
        folder = Path(name)
        shutil.copy(MODULE, folder)
        download = _run(folder, command, "mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}")
        go_mod = Path(json.loads(download)["GoMod"]).read_text()
        staged = re.findall(r"^\s+(k8s\.io/\S+) => \./staging", go_mod, re.MULTILINE)
        lines = ["module cluster", "go 1.24.0", f"require k8s.io/kubernetes v{KUBERNETES}"]
        # Kubernetes 1.34.2 has its staging modules at v0.34.2.
        lines += [f"replace {name} => {name} v0.{KUBERNETES.partition('.')[2]}" for name in staged]
        (folder / "go.mod").write_text("\n".join(lines))
        _run(folder, command, "mod", "tidy", "-e")
        flags = f"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES}"
        packages = [f"k8s.io/kubernetes/cmd/{name}" for name in COMMANDS]
        _run(folder, command, "build", flags, "-o", f"{folder}/bin/", *packages)
        for program in (folder / "bin").iterdir():
            program.rename(BIN / program.name)  # complete, or not at all
    print(f"Compiled ({time.monotonic() - began:.0f} s)", flush=True)


def _run(folder: Path, *command: str) -> str:
    settings = {"GOFLAGS": "-buildvcs=false", "GOGC": "400"}  # more memory, less time
    process = subprocess.run(
        command, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise MissingError(f"{' '.join(command)}: {process.stderr[-2000:]}")
    return process.stdout
