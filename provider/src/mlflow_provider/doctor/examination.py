"""What the checks share: the server, what they have made there, and how each says what it found."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from mlflow_provider.exceptions import MLflowProviderError
from mlflow_provider.hooks.client import MLflowClientHook
from mlflow_provider.process.tracking import tracking
from mlflow_provider.server import limits
from mlflow_provider.server.connection import DEFAULT_PORTS, MLflowConnection

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from mlflow import MlflowClient

    from mlflow_provider.tracking.run import Run

log = logging.getLogger(__name__)

WIDTH = 80


@dataclass(frozen=True)
class Result:
    """What a check found; as a string, for a terminal of 80 columns.

    :param check: what was looked at.
    :param status: ``skipped`` where an earlier check has failed, or where it cannot be found out.
    :param says: what was found, or the cause of a failure.
    :param do: what to do about a failure.
    """

    check: str
    status: Literal["ok", "failed", "skipped"]
    says: str
    do: str = ""

    @property
    def sentence(self) -> str:
        """Cause and cure."""
        return f"{self.says}; {self.do}" if self.do else self.says

    def __str__(self) -> str:
        mark = {"ok": "ok", "failed": "FAILED", "skipped": "-"}[self.status]
        texts = {f"{mark:<8}{self.check:<16}": self.says, f"{'->':>23} ": self.do}
        margin = " " * 24
        lines = [
            fill(text, WIDTH, initial_indent=indent, subsequent_indent=margin, break_on_hyphens=False)
            for indent, text in texts.items()
            if text
        ]
        return "\n".join(lines)


class Skipped(Exception):  # noqa: N818  # no error
    """Raised by a check that cannot find out what it asks."""


@dataclass
class Examination:
    """One examination of the way to a server and its artifacts.

    :param conn_id: the connection to the server.
    :param get_connection: looks a connection up.
    :param experiment_name: the experiment to examine; None for a new one, which is deleted afterwards.
    :param task_instance: of the task that examines, which can ask Airflow about others.
    :param close_open_runs: whether to end open runs of tasks that have ended.
    :param experiment: as MLflow's API gives it.
    :param run: the run that was created in it.
    :param content: of the artifact that is written and read back.
    :param cleanup: deletes what was made.
    """

    conn_id: str
    get_connection: Callable[[str], Connection]
    experiment_name: str | None = None
    task_instance: Any = None
    close_open_runs: bool = False
    experiment: dict[str, Any] = field(default_factory=dict)
    run: Run = field(init=False)
    content: bytes = field(default_factory=lambda: os.urandom(10_000))
    cleanup: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def connection(self) -> MLflowConnection:
        """The connection, with the limits of :attr:`hook`."""
        return self.hook.connection

    @cached_property
    def hook(self) -> MLflowClientHook:
        """A hook for the server, with limits for someone who waits."""
        connection = MLflowConnection.read(self.conn_id, self.get_connection)
        hook = MLflowClientHook.for_connection(connection, "GET")
        return hook.with_limits(limits.interactive(connection))

    def tracking(self) -> AbstractContextManager[MlflowClient]:
        """Point the ``mlflow`` package at the server for a block."""
        return tracking(self.connection)

    @cached_property
    def proxy(self) -> str | None:
        """Host and port of the proxy that requests to the server pass, if there is one."""
        from requests.utils import get_environ_proxies, select_proxy

        url = self.connection.url
        proxy = select_proxy(url, get_environ_proxies(url))
        return proxy and urlsplit(proxy).netloc.rpartition("@")[2]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the worker itself has to reach."""
        url = urlsplit(f"//{self.proxy}" if self.proxy else self.connection.url)
        return url.hostname or "", url.port or DEFAULT_PORTS.get(url.scheme, 80)

    @property
    def artifact_uri(self) -> str:
        """Where the artifacts of the run go."""
        return self.run.artifact_uri

    def masked(self, text: str) -> str:
        """Return a text without the connection's secrets, whatever a server has put into its answer."""
        try:
            connection = self.connection
        except MLflowProviderError:  # which shows none
            return text
        environment = connection.artifact_environment
        secrets = [connection.password, connection.token, *connection.headers.values()]
        secrets += [environment.get(name) for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text


@dataclass(frozen=True)
class Check:
    """A question to the way that an artifact takes.

    :param title: what is looked at.
    :param after: the check without whose success this one cannot be made.
    :param causes: what it may name, from :mod:`mlflow_provider.server.findings`.
    :param look: returns what is well.
    """

    title: str
    after: Check | None
    causes: tuple[str, ...]
    look: Callable[[Examination], str]

    def result(self, examination: Examination) -> Result:
        """Return what the check finds; it raises nothing."""
        try:
            return Result(self.title, "ok", examination.masked(self.look(examination)))
        except Skipped as reason:
            return Result(self.title, "skipped", str(reason))
        except MLflowProviderError as error:
            sentence = examination.masked(str(error))
        except Exception as error:  # what nobody has thought of fails this check alone
            log.debug("%s", self.title, exc_info=True)
            sentence = examination.masked(f"{type(error).__name__}: {error}")
        says, _, do = sentence.rstrip(".").rpartition("; ")
        return Result(self.title, "failed", says or do, do if says else "")


CHECKS: list[Check] = []  # in the order in which they are made


def check(
    title: str, after: Check | None = None, *causes: str
) -> Callable[[Callable[[Examination], str]], Check]:
    """Make a function that returns what is well, and raises what is not, a check."""

    def add(look: Callable[[Examination], str]) -> Check:
        CHECKS.append(Check(title, after, causes, look))
        return CHECKS[-1]

    return add
