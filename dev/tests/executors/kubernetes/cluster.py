"""A Kubernetes of one node, which leaves the machine as it was.

Its programs run in namespaces of their own: mounts, network, process IDs. When the first of their processes
ends, the kernel ends all the others, the pods' too, and nothing of them is left. A pair of virtual network
cards leads in.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import yaml

from dev.tests.executors.kubernetes import programs
from dev.tests.executors.kubernetes.programs import HOME
from dev.tests.helpers.clones import wait_until
from local_stack.settings import ROOT

# Where sockets are: their path may have 107 characters, and the project may lie deeper than that.
RUN = Path(tempfile.gettempdir()) / f"kubernetes-{hashlib.sha256(bytes(ROOT)).hexdigest()[:8]}"
NODE = "172.30.255.254"  # where the node's programs listen, and
MACHINE = "172.30.255.253"  # the machine's end of the cable to it
PODS = "172.30.0.0/17"
SERVICES = "172.31.0.0/16"
API = "172.31.0.1"  # the API server's, the first of them
NAME_SERVER = Path(__file__).with_name("name_server.py")
PAUSE = "registry.k8s.io/pause:3.10"  # the image that holds a pod's namespaces
CONTAINERD = f"unix://{RUN}/containerd.sock"

# Everything below is gone with the namespaces.
NAMESPACES = f"""
mount --make-rshared /
for folder in /run /var/lib /var/log; do mount -t tmpfs tmpfs $folder; done
mkdir -p {RUN}/kubelet && mount --bind {RUN}/kubelet {RUN}/kubelet && mount --make-rshared {RUN}/kubelet
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
touch {RUN}/made
exec sleep infinity
"""


@dataclass
class Cluster:
    """The cluster that runs.

    :param init: ID of the first process in its namespaces.
    """

    init: int

    def __call__(self, *arguments: str | Path, check: bool = True, given: str | None = None) -> str:
        """Run ``kubectl`` as the administrator, and return what it says on stdout.

        :param given: for its stdin.
        :raises AssertionError: it failed, unless ``check`` is False.
        """
        done = subprocess.run(
            [programs.BIN / "kubectl", f"--kubeconfig={RUN}/kubeconfig", *arguments],
            env=programs.environment(),
            cwd=ROOT,
            input=given,
            stdin=DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(map(str, arguments))}\n{done.stderr}"
        return done.stdout if check else done.stdout + done.stderr

    @property
    def inside(self) -> list[str]:
        """The command that runs another one in the cluster's namespaces."""
        return ["nsenter", f"--target={self.init}", "--mount", "--net", "--pid", "--"]

    def answers(self) -> bool:
        """Tell whether the API server is ready."""
        return self("get", "--raw=/readyz", check=False) == "ok"

    def get(self, *what: str) -> Any:
        """Return objects as the API server has them."""
        return json.loads(self("get", "--output=json", *what))

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Create or change objects."""
        self("apply", "--filename=-", given=yaml.safe_dump_all(manifests))

    @property
    def containerd(self) -> list[str]:
        """The command that talks to the program that holds images and containers."""
        return [*self.inside, "ctr", f"--address={CONTAINERD[7:]}", "--namespace=k8s.io"]

    def import_images(self, save: list[str], environment: dict[str, str]) -> None:
        """Take images over from a Docker engine, by what ``docker save`` writes."""
        take = [*self.containerd, "images", "import", "-"]
        with subprocess.Popen(save, env=environment, stdout=subprocess.PIPE) as saving:
            done = subprocess.run(
                take,
                env=programs.environment(),
                stdin=saving.stdout,
                capture_output=True,
                text=True,
                check=False,
            )
        assert saving.returncode == 0 == done.returncode, done.stderr

    def forget_containers(self) -> None:
        """Remove what is left of containers of an earlier cluster; the images stay."""
        environment = programs.environment()
        listed = [*self.containerd, "containers", "ls", "--quiet"]
        for name in subprocess.check_output(listed, env=environment, text=True).split():
            for kind in ("containers", "snapshots"):
                command = [*self.containerd, kind, "rm", name]
                subprocess.run(command, env=environment, capture_output=True, check=False)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Offer a cluster with one node that is ready, for a block; its images stay for the next time.

    :raises MissingError: this machine cannot have one.
    """
    programs.make()
    with (HOME / "in-use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # there is one for each copy of the project
        yield from _running()


def _running() -> Iterator[Cluster]:
    """Start a cluster, give it once, and stop it."""
    began = time.monotonic()
    _stop()  # what an interrupted run left
    RUN.mkdir()
    try:
        subprocess.run(["cgroupfs-mount"], env=programs.environment(), check=False)
        cluster = Cluster(_make_namespaces())
        _write_files()
        for name, command in _commands().items():
            _start(cluster, name, command)
            if name == "containerd":
                wait_until("containerd answers", Path(CONTAINERD[7:]).exists)
                cluster.forget_containers()
            if name == "kube-apiserver":
                wait_until("the API server is ready", cluster.answers)
        wait_until(
            "the node is ready", lambda: "True" in cluster("get", "nodes", f"--output=jsonpath={READY}")
        )
        print(f"Kubernetes: one node is ready ({time.monotonic() - began:.0f} s)", flush=True)
        yield cluster
    finally:
        _stop()


READY = '{.items[*].status.conditions[?(@.type=="Ready")].status}'


def _make_namespaces() -> int:
    """Make the namespaces, and the cable that leads in; return the ID of their first process."""
    outer = subprocess.Popen(
        [
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-euc",
            NAMESPACES,
        ],
        stdin=DEVNULL,
        env=programs.environment(),
        start_new_session=True,
    )
    wait_until("the namespaces are made", (RUN / "made").exists)
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text()
    init = int(children.split()[0])
    (RUN / "init").write_text(str(init))
    inside = ["nsenter", f"--target={init}", "--net", "--"]
    for command in (
        f"ip link add kubernetes type veth peer name kubernetes netns {init}",
        f"ip address add {MACHINE}/30 dev kubernetes",
        "ip link set kubernetes up",
    ):
        subprocess.run(command.split(), check=True)
    for command in (
        f"ip address add {NODE}/30 dev kubernetes",
        "ip link set kubernetes up",
        f"ip route add default via {MACHINE}",  # leads nowhere, but without one nothing finds its own address
    ):
        subprocess.run([*inside, *command.split()], check=True)
    subprocess.run(f"ip route add {SERVICES} via {NODE}".split(), check=True)
    return init


def _write_files() -> None:
    """Write certificates, tokens and configuration."""
    token = secrets.token_hex()
    (RUN / "tokens").write_text(f"{token},admin,admin,system:masters\n")
    _make_certificates()
    ca = str(RUN / "ca.crt")
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "it", "cluster": {"server": f"https://{NODE}:6443", "certificate-authority": ca}}
        ],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "admin"}}],
        "current-context": "it",
    }
    network = {
        "cniVersion": "0.4.0",
        "name": "pods",
        # Routed, not bridged: what comes back from a Service's pod passes by the rules that lead there.
        "plugins": [
            {
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": PODS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": f"{RUN}/addresses",
                },
            },
            {"type": "loopback"},
        ],
    }
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE,
        "containerRuntimeEndpoint": CONTAINERD,
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": ca}},
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "localStorageCapacityIsolation": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "clusterDNS": [NODE],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "podLogsDir": f"{RUN}/logs",
        "volumePluginDir": f"{RUN}/plugins",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "registryPullQPS": 0,
        "serializeImagePulls": False,
        "syncFrequency": "10s",
        "maxPods": 200,
    }
    proxy = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": NODE,
        "metricsBindAddress": "127.0.0.1:10249",
        "healthzBindAddress": "127.0.0.1:10256",
        "clientConnection": {"kubeconfig": f"{RUN}/kubeconfig"},
        "hostnameOverride": "node",
        "mode": "iptables",
        "clusterCIDR": PODS,
        "iptables": {"localhostNodePorts": False, "minSyncPeriod": "0s"},
        # The kernel's table of connections is the machine's.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    (RUN / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    (RUN / "kubelet.yaml").write_text(yaml.safe_dump(kubelet))
    (RUN / "kube-proxy.yaml").write_text(yaml.safe_dump(proxy))
    (RUN / "network").mkdir()
    (RUN / "network" / "pods.conflist").write_text(json.dumps(network))
    (RUN / "containerd.toml").write_text(f"""
version = 2
root = "{HOME}/containerd"
state = "{RUN}/containerd"
[grpc]
address = "{CONTAINERD[7:]}"
[plugins."io.containerd.internal.v1.opt"]
path = "{RUN}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{programs.DEBIAN}/usr/lib/cni"
conf_dir = "{RUN}/network"
""")


def _make_certificates() -> None:
    """Make a certificate authority, and the API server's certificate, which it also shows to the kubelet."""
    names = f"DNS:kubernetes.default.svc,IP:{NODE},IP:{API}"
    (RUN / "names").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
    new_key = "req -newkey rsa:2048 -nodes"
    for command in (
        f"{new_key} -x509 -days 30 -subj /CN=ca -keyout ca.key -out ca.crt",
        f"{new_key} -subj /O=system:masters/CN=apiserver -keyout apiserver.key -out apiserver.csr",
        "x509 -req -days 30 -in apiserver.csr -CA ca.crt -CAkey ca.key -extfile names -out apiserver.crt",
        "genrsa -out accounts.key 2048",
        "rsa -in accounts.key -pubout -out accounts.pub",
    ):
        subprocess.run(["openssl", *command.split()], cwd=RUN, capture_output=True, check=True)


def _commands() -> dict[str, list[str]]:
    """Return the programs of the node, in the order in which they start."""
    kubeconfig = f"--kubeconfig={RUN}/kubeconfig"
    return {
        "etcd": [
            "etcd",
            f"--data-dir={RUN}/etcd",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",  # it is gone afterwards anyway
        ],
        "containerd": ["containerd", f"--config={RUN}/containerd.toml"],
        "kube-apiserver": [
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--bind-address={NODE}",
            f"--advertise-address={NODE}",
            f"--service-cluster-ip-range={SERVICES}",
            "--authorization-mode=Node,RBAC",
            f"--token-auth-file={RUN}/tokens",
            f"--client-ca-file={RUN}/ca.crt",
            f"--tls-cert-file={RUN}/apiserver.crt",
            f"--tls-private-key-file={RUN}/apiserver.key",
            f"--kubelet-client-certificate={RUN}/apiserver.crt",
            f"--kubelet-client-key={RUN}/apiserver.key",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={RUN}/accounts.pub",
            f"--service-account-signing-key-file={RUN}/accounts.key",
        ],
        "kube-controller-manager": [
            "kube-controller-manager",
            kubeconfig,
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--service-account-private-key-file={RUN}/accounts.key",
            f"--root-ca-file={RUN}/ca.crt",
        ],
        "kube-scheduler": ["kube-scheduler", kubeconfig, "--leader-elect=false", "--bind-address=127.0.0.1"],
        "kubelet": [
            "kubelet",
            kubeconfig,
            f"--config={RUN}/kubelet.yaml",
            f"--root-dir={RUN}/kubelet",
            f"--cert-dir={RUN}/certificates",
            "--hostname-override=node",
            f"--node-ip={NODE}",
        ],
        "kube-proxy": ["kube-proxy", f"--config={RUN}/kube-proxy.yaml"],
        "name-server": [sys.executable, str(NAME_SERVER), NODE, f"{RUN}/kubeconfig"],
    }


def _start(cluster: Cluster, name: str, command: list[str]) -> None:
    (HOME / "logs").mkdir(exist_ok=True)
    with (HOME / "logs" / f"{name}.log").open("w") as log:
        subprocess.Popen(
            [*cluster.inside, *command],
            env=programs.environment(),
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _stop() -> None:
    """End the first process of the namespaces, and with it all others; remove what they wrote."""
    init = RUN / "init"
    if init.exists():
        parent = _parent(int(init.read_text()))
        if parent:
            os.kill(parent, 9)  # which takes its child with it
            wait_until("the cluster is gone", lambda: not _parent(int(init.read_text())))
    shutil.rmtree(RUN, ignore_errors=True)
    for controller in Path("/sys/fs/cgroup").iterdir():
        for folder, _, _ in os.walk(controller / "kubepods", topdown=False):
            Path(folder).rmdir()


def _parent(init: int) -> int | None:
    """Return the ID of the process that made the namespaces, if they are there."""
    try:
        status = Path(f"/proc/{init}/status").read_text()
        command = Path(f"/proc/{init}/cmdline").read_bytes()
    except OSError:
        return None
    found = dict(line.split(":", 1) for line in status.splitlines())
    return int(found["PPid"]) if b"sleep" in command else None
