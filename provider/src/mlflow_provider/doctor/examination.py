"""State of an examination, and the registration and results of its checks."""

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
from mlflow_provider.server.connection import MLflowConnection
from mlflow_provider.server.fields import DEFAULT_PORTS
from mlflow_provider.server.findings import UNEXPECTED, Finding, clean

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from mlflow import MlflowClient

    from mlflow_provider.tracking.runs import Run

log = logging.getLogger(__name__)

WIDTH = 80


@dataclass(frozen=True)
class Result:
    """The result of a check; ``str()`` formats it for a terminal of 80 columns.

    :param check: title of the check.
    :param status: ``skipped`` when an earlier check failed, or when the check is not possible here.
    :param finding: what the check found, or what is wrong.
    :param fix: what to do about a failure.
    :param code: stable name of a failure, from :mod:`mlflow_provider.server.findings`.
    """

    check: str
    status: Literal["ok", "failed", "skipped"]
    finding: str
    fix: str = ""
    code: str | None = None

    @property
    def sentence(self) -> str:
        """Finding and fix."""
        return f"{self.finding}; {self.fix}" if self.fix else self.finding

    def __str__(self) -> str:
        mark = {"ok": "ok", "failed": "FAILED", "skipped": "-"}[self.status]
        texts = {f"{mark:<8}{self.check:<16}": self.finding, f"{'->':>23} ": self.fix}
        margin = " " * 24
        lines = [
            fill(text, WIDTH, initial_indent=indent, subsequent_indent=margin, break_on_hyphens=False)
            for indent, text in texts.items()
            if text
        ]
        return "\n".join(lines)


class Skipped(Exception):  # noqa: N818  # no error
    """Raised by a check that is not possible here."""


@dataclass
class Examination:
    """One examination of the path from a task to a server and its artifacts.

    :param conn_id: the connection to the server.
    :param get_connection: looks up a connection.
    :param experiment_name: the experiment to examine; None for a new one, which is deleted afterwards.
    :param task_instance: the running task instance, which can query the states of others.
    :param close_open_runs: whether to end open runs of tasks that have ended.
    :param experiment: as MLflow's API returns it.
    :param run: the run that was created in it.
    :param content: content of the artifact that is written and read back.
    :param cleanup: deletes what was created.
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
        """A hook for the server, which fails fast because someone is waiting."""
        connection = MLflowConnection.read(self.conn_id, self.get_connection)
        hook = MLflowClientHook.for_connection(connection, "GET")
        return hook.with_limits(limits.interactive(connection))

    def tracking(self) -> AbstractContextManager[MlflowClient]:
        """Point the ``mlflow`` package at the server for a block."""
        return tracking(self.connection)

    @cached_property
    def proxy(self) -> str | None:
        """Host and port of the proxy for requests to the server, if there is one."""
        from requests.utils import get_environ_proxies, select_proxy

        url = self.connection.url
        proxy = select_proxy(url, get_environ_proxies(url))
        return proxy and urlsplit(proxy).netloc.rpartition("@")[2]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that the worker itself must reach."""
        url = urlsplit(f"//{self.proxy}" if self.proxy else self.connection.url)
        return url.hostname or "", url.port or DEFAULT_PORTS.get(url.scheme, 80)

    @property
    def artifact_uri(self) -> str:
        """The artifact location of the run."""
        return self.run.artifact_uri

    def masked(self, text: str) -> str:
        """Return a text for a terminal, without the connection's secrets, which a server may repeat."""
        text = clean(text)
        try:
            connection = self.connection
        except MLflowProviderError:  # its message has no secret
            return text
        token = connection.login.variables.get("MLFLOW_TRACKING_TOKEN")
        secrets = [connection.login.secret, token, *connection.headers.values()]
        secrets += connection.artifact_store.secrets
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text


@dataclass(frozen=True)
class Check:
    """A check on the path of an artifact.

    :param title: the subject of the check.
    :param after: the check that must have succeeded before.
    :param findings: the failures that it may report.
    :param inspect: returns a description of a success.
    """

    title: str
    after: Check | None
    findings: tuple[Finding, ...]
    inspect: Callable[[Examination], str]

    def result(self, examination: Examination) -> Result:
        """Run the check and return its result; it raises nothing."""
        try:
            return Result(self.title, "ok", examination.masked(self.inspect(examination)))
        except Skipped as reason:
            return Result(self.title, "skipped", str(reason))
        except MLflowProviderError as error:
            finding = error.finding or UNEXPECTED.format(message=str(error).removesuffix("."))
        except Exception as error:  # an unforeseen error fails only this check
            log.debug("%s", self.title, exc_info=True)
            finding = UNEXPECTED.format(message=error).about(type(error).__name__)
        return Result(self.title, "failed", examination.masked(finding.cause), finding.fix, finding.code)


CHECKS: list[Check] = []  # in the order in which they run


def check(
    title: str, after: Check | None = None, *findings: Finding
) -> Callable[[Callable[[Examination], str]], Check]:
    """Register a function that describes a success, or raises an error, as a check."""

    def add(inspect: Callable[[Examination], str]) -> Check:
        CHECKS.append(Check(title, after, findings, inspect))
        return CHECKS[-1]

    return add
