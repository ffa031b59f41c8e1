"""SageMaker's managed MLflow, whose requests are signed, with the package ``sagemaker-mlflow``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from mlflow_provider.server import findings
from mlflow_provider.server.deadline import run_with_timeout
from mlflow_provider.server.logins.method import LoginMethod, failed

ARN = re.compile(r"arn:aws(-us-gov)?:sagemaker:[\w-]+:\w+:(mlflow-tracking-server|mlflow-app)/\S+")
# By type of the resource: the header with its ARN, and the name of the service in signatures.
RESOURCES = {
    "mlflow-tracking-server": ("x-mlflow-sm-tracking-server-arn", "sagemaker-mlflow"),
    "mlflow-app": ("x-sm-mlflow-app-arn", "sagemaker"),
}


@dataclass(frozen=True)
class SignedRequests(LoginMethod):
    """Signatures with the worker's AWS credentials.

    In the ``mlflow`` package the plugin itself signs, because the tracking URI is the ARN.

    :param arn: the tracking server or the MLflow app.
    """

    arn: str

    def __str__(self) -> str:
        return "the worker's AWS credentials"

    @property
    def url(self) -> str:
        """The address of the server.

        :raises MLflowLoginError: the plugin is not installed here.
        """
        try:
            from sagemaker_mlflow.mlflow_sagemaker_helpers import SageMakerMLflowHostMetadataProvider
        except ImportError:
            what = {"login": "an ARN as Host", "package": "sagemaker-mlflow"}
            raise failed(findings.LOGIN_PACKAGE_MISSING.format(**what)) from None
        host = SageMakerMLflowHostMetadataProvider()
        host.set_arn(self.arn)
        return host.construct_tracking_server_url().rstrip("/")

    def authenticate(self, request: Any, timeout: float) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError
        from sagemaker_mlflow.auth import AuthBoto

        _, _, _, region, _, resource = self.arn.split(":", 5)
        header, service = RESOURCES[resource.split("/")[0]]
        request.headers[header] = self.arn
        role = os.environ.get("SAGEMAKER_MLFLOW_ASSUME_ROLE_ARN")
        try:
            return run_with_timeout(lambda: AuthBoto(region, service, role)(request), timeout, str(self))
        except (BotoCoreError, ClientError) as error:
            raise failed(findings.IDENTITY_UNAVAILABLE.format(identity="AWS", reason=error)) from None
