"""A taken port is noticed before anything starts."""

import os
import socket

import pytest

from local import stack
from local.settings import LocalError


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")],
)
def test_a_taken_port_is_named_with_its_holder_and_the_way_out(family, address):
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        with pytest.raises(LocalError) as caught:
            stack._check_free(port, "MLFLOW_PORT")
    message = str(caught.value)
    assert message.startswith(f"Port {port} is taken by ")
    assert f"(process {os.getpid()})" in message
    assert f"MLFLOW_PORT={port + 1} make up" in message
    assert "\n" not in message


def test_a_free_port_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    stack._check_free(port, "MLFLOW_PORT")
