"""A Kubernetes node that leaves the machine unchanged.

Its programs run in their own mount, network and process namespaces. When the first process there ends, the
kernel ends all the others, including the pods', and nothing is left. A pair of virtual network cards connects
it to the machine.
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

import yaml

from dev.cluster import programs
from dev.cluster.kubectl import Kubectl
from dev.cluster.programs import HOME
from dev.cluster.relay import relay
from dev.waiting import wait_until
from local_stack.settings import ROOT

# A socket's path may have 107 characters, and the project may be in a deeper folder than that.
RUN = Path(tempfile.gettempdir()) / f"kubernetes-{hashlib.sha256(bytes(ROOT)).hexdigest()[:8]}"
NODE = "172.30.255.254"  # the node's address
MACHINE = "172.30.255.253"  # the machine's address on the link to the node
PODS = "172.30.0.0/17"
SERVICES = "172.31.0.0/16"
API = "172.31.0.1"  # the API server's, the first Service address
NAME_SERVER = Path(__file__).with_name("name_server.py")
PAUSE = "registry.k8s.io/pause:3.10"  # the image that holds a pod's namespaces
SOCKET = RUN / "containerd.sock"
READY = '{.items[*].status.conditions[?(@.type=="Ready")].status}'

# Everything below disappears with the namespaces.
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
class Node(Kubectl):
    """The running cluster.

    :param init: ID of the first process in its namespaces.
    """

    init: int = 0

    @property
    def inside(self) -> list[str]:
        """The command that runs another one in the node's namespaces."""
        return ["nsenter", f"--target={self.init}", "--mount", "--net", "--pid", "--"]

    @property
    def containerd(self) -> list[str]:
        """The command line of containerd, which holds images and containers."""
        return [*self.inside, "ctr", f"--address={SOCKET}", "--namespace=k8s.io"]

    @contextmanager
    def forward(self, namespace: str, service: str, port: int) -> Iterator[None]:
        """Forward a port of this machine to a Service of one port, for a block; whichever pods it has."""
        spec = self.get("service", f"--namespace={namespace}", service)["spec"]
        with relay((spec["clusterIP"], spec["ports"][0]["port"]), port):
            yield

    def import_images(self, save: list[str], environment: dict[str, str]) -> None:
        """Import images from a Docker engine, with the output of ``docker save``."""
        with subprocess.Popen(save, env=environment, stdout=subprocess.PIPE) as saving:
            process = subprocess.run(
                [*self.containerd, "images", "import", "-"],
                env=programs.environment(),
                stdin=saving.stdout,
                capture_output=True,
                text=True,
                check=False,
            )
        assert saving.returncode == 0 == process.returncode, process.stderr

    def remove_containers(self) -> None:
        """Remove what is left of an earlier cluster's containers; images are kept."""
        environment = programs.environment()
        listed = [*self.containerd, "containers", "ls", "--quiet"]
        for name in subprocess.check_output(listed, env=environment, text=True).split():
            for kind in ("containers", "snapshots"):
                command = [*self.containerd, kind, "rm", name]
                subprocess.run(command, env=environment, capture_output=True, check=False)


@contextmanager
def running() -> Iterator[Node]:
    """Run a cluster for a block; its images are kept for the next time.

    :raises MissingError: this machine cannot run one.
    """
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "in-use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one cluster per copy of the project
        try:
            yield start()
        finally:
            stop()


def start() -> Node:
    """Start a cluster in place of an earlier one; return when its node is ready.

    :raises MissingError: this machine cannot run one.
    """
    programs.make()
    began = time.monotonic()
    stop()
    RUN.mkdir()
    subprocess.run(["cgroupfs-mount"], env=programs.environment(), check=False)
    node = Node(RUN / "kubeconfig", programs.BIN / "kubectl", _make_namespaces())
    _write_files()
    for name, command in _commands().items():
        _start(node, name, command)
        if name == "containerd":
            wait_until("containerd answers", SOCKET.exists)
            node.remove_containers()
        if name == "kube-apiserver":
            wait_until("the API server is ready", lambda: node("get", "--raw=/readyz", check=False) == "ok")
    wait_until("the node is ready", lambda: "True" in node("get", "nodes", f"--output=jsonpath={READY}"))
    print(f"Kubernetes: one node is ready ({time.monotonic() - began:.0f} s)", flush=True)
    return node


def _make_namespaces() -> int:
    """Make the namespaces and the link to them; return the ID of their first process."""
    options = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    outer = subprocess.Popen(
        ["unshare", *options, "sh", "-euc", NAMESPACES],
        stdin=DEVNULL,
        env=programs.environment(),
        start_new_session=True,
    )
    wait_until("the namespaces exist", (RUN / "made").exists)
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
        f"ip route add default via {MACHINE}",  # a dead end, but programs derive their own address from it
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
        # Routed, not bridged, so that replies from a Service's pod pass the same rules.
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
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
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
        # The kernel's connection table belongs to the machine.
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
address = "{SOCKET}"
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
    """Make a certificate authority, and a certificate for the API server, as a server and as a client."""
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
    """Return the command lines of the node's programs, in starting order."""
    kubeconfig = f"--kubeconfig={RUN}/kubeconfig"
    return {
        "etcd": [
            "etcd",
            f"--data-dir={RUN}/etcd",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",  # nothing is kept
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


def _start(node: Node, name: str, command: list[str]) -> None:
    (HOME / "logs").mkdir(exist_ok=True)
    with (HOME / "logs" / f"{name}.log").open("w") as log:
        subprocess.Popen(
            [*node.inside, *command],
            env=programs.environment(),
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def stop() -> None:
    """Stop the cluster, if one is running, and remove its files."""
    init = RUN / "init"
    if init.exists():
        parent = _parent(int(init.read_text()))
        if parent:
            os.kill(parent, 9)  # with its child, the first process of the namespaces, and so all others
            wait_until("the cluster has stopped", lambda: not _parent(int(init.read_text())))
    shutil.rmtree(RUN, ignore_errors=True)
    for controller in Path("/sys/fs/cgroup").iterdir():
        for folder, _, _ in os.walk(controller / "kubepods", topdown=False):
            Path(folder).rmdir()


def _parent(init: int) -> int | None:
    """Return the ID of the process that made the namespaces, if they exist."""
    try:
        status = Path(f"/proc/{init}/status").read_text()
        command = Path(f"/proc/{init}/cmdline").read_bytes()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["PPid"]) if b"sleep" in command else None
