"""SageMaker's managed MLflow, whose requests are signed, with the package ``sagemaker-mlflow``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from mlflow_provider.server import findings
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
    :param url: its address.
    :param region: its region.
    :param header: the header with the ARN.
    :param service: the name of the service in signatures.
    """

    arn: str
    url: str
    region: str
    header: str
    service: str

    @classmethod
    def of(cls, arn: str) -> SignedRequests:
        """Return the login method for an ARN.

        :raises MLflowLoginError: the plugin is not installed here.
        """
        try:
            from sagemaker_mlflow import mlflow_sagemaker_helpers
        except ImportError:
            what = {"option": "an ARN as Host", "package": "sagemaker-mlflow"}
            raise failed(findings.LOGIN_PACKAGE_MISSING.format(**what)) from None
        host = mlflow_sagemaker_helpers.SageMakerMLflowHostMetadataProvider()
        host.set_arn(arn)
        url = host.construct_tracking_server_url().rstrip("/")
        return cls(arn, url, host.region, *RESOURCES[host.resource_type])

    def __str__(self) -> str:
        return "the worker's AWS credentials"

    def authenticate(self, request: Any, timeout: float) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError
        from sagemaker_mlflow.auth import AuthBoto

        request.headers[self.header] = self.arn
        try:
            role = os.environ.get("SAGEMAKER_MLFLOW_ASSUME_ROLE_ARN")
            return AuthBoto(self.region, self.service, role)(request)
        except (BotoCoreError, ClientError) as error:
            raise failed(findings.IDENTITY_UNAVAILABLE.format(identity="AWS", reason=error)) from None
