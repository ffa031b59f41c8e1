"""The cluster's name server, which resolves the names of Services.

``python name_server.py <address> <kubeconfig>`` listens on port 53 of the address. It replaces CoreDNS, which
would have to be compiled for the few names used here.

.. seealso:: https://www.rfc-editor.org/rfc/rfc1035#section-4, and for the names
    https://github.com/kubernetes/dns/blob/master/docs/specification.md
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys

DOMAIN = "svc.cluster.local"
A = 1
ANSWER, UNKNOWN = 0x8580, 0x8583  # flags of an authoritative answer, and of NXDOMAIN


def services(kubeconfig: str) -> dict[str, str]:
    """Return the addresses of all Services by their full names."""
    command = f"kubectl --kubeconfig={kubeconfig} get services --all-namespaces --output=json".split()
    items = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["items"]
    return {
        "{name}.{namespace}.{}".format(DOMAIN, **service["metadata"]): service["spec"]["clusterIP"]
        for service in items
    }


def question(message: bytes) -> tuple[str, int, int]:
    """Return the name and type of record in the question, and where the question ends."""
    labels, at = [], 12
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode())
        at += 1 + length
    [kind] = struct.unpack_from("!H", message, at + 1)
    return ".".join(labels).lower(), kind, at + 5


def answer(message: bytes, address: str | None) -> bytes:
    """Return the answer to a message, given the address of the name in its question."""
    _, kind, end = question(message)
    flags = ANSWER if address else UNKNOWN
    record = b""
    if address and kind == A:
        # The name is the question's, at byte 12 of the message; it may be cached for five seconds.
        record = struct.pack("!HHHIH", 0xC00C, A, 1, 5, 4) + socket.inet_aton(address)
    header = message[:2] + struct.pack("!5H", flags, 1, 1 if record else 0, 0, 0)
    return header + message[12:end] + record


def serve(address: str, kubeconfig: str) -> None:
    """Answer queries on port 53 of an address until killed."""
    addresses: dict[str, str] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port:
        port.bind((address, 53))
        while True:
            message, client = port.recvfrom(4096)
            name, _, _ = question(message)
            if name not in addresses and name.endswith(DOMAIN) and name.count(".") == 4:
                addresses = services(kubeconfig)
            port.sendto(answer(message, addresses.get(name)), client)


if __name__ == "__main__":
    serve(*sys.argv[1:])
