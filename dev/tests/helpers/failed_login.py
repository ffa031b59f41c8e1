"""Whether a task and the doctor say why a login fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlflow_provider import task_run
from mlflow_provider.doctor import examine
from mlflow_provider.exceptions import MLflowProviderError
from tries import Try

if TYPE_CHECKING:
    from mlflow_provider.server.findings import Finding


def check_that_login_fails(finding: Finding, reason: str) -> None:
    """Check what a task and the doctor say of the login of ``mlflow_default``.

    :param finding: what the doctor must find.
    :param reason: what both must say.
    """
    with (
        pytest.raises(MLflowProviderError, match=reason),
        task_run(context=Try("failed-login").context, experiment="failed-login"),
    ):
        pass

    [failed] = [result for result in examine() if result.status == "failed"]
    assert failed.code == finding.code
    assert reason in failed.finding
