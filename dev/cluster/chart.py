"""Airflow in the cluster, installed from the values for its Helm chart.

The chart is on no package index. This module applies the values as the chart does, without the chart's own
probes, init container and users.
"""

from __future__ import annotations

import base64
import configparser
import io
import json
import secrets
from typing import TYPE_CHECKING, Any

import yaml

from dev.cluster import platform
from local_stack.settings import ROOT

if TYPE_CHECKING:
    from dev.cluster.kubectl import Kubectl

VALUES = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "airflow-values.yaml").read_text())
NAMESPACE = "airflow"
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
# Set by the chart itself.
CHART = {
    "core": {"executor": VALUES["executor"], "load_examples": "False"},
    "kubernetes_executor": {
        "namespace": NAMESPACE,
        "pod_template_file": "/opt/airflow/pod_templates/pod_template_file.yaml",
        "worker_container_repository": VALUES["images"]["pod_template"]["repository"],
        "worker_container_tag": VALUES["images"]["pod_template"]["tag"],
    },
}
# For the tests only: no login, and a small machine.
TESTS = {
    "core": {
        "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "simple_auth_manager_all_admins": "True",
        "parallelism": "5",
    },
    "api": {"workers": "1"},
    "workers": {"execution_api_timeout": "60"},
    "usage_data_collection": {"enabled": "False"},
}
SECRETS = {
    VALUES["data"]["metadataSecretName"]: ("connection", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"),
    VALUES["fernetKeySecretName"]: ("fernet-key", "AIRFLOW__CORE__FERNET_KEY"),
    VALUES["apiSecretKeySecretName"]: ("api-secret-key", "AIRFLOW__API__SECRET_KEY"),
    VALUES["jwtSecretName"]: ("jwt-secret", "AIRFLOW__API_AUTH__JWT_SECRET"),
}


def install(cluster: Kubectl) -> None:
    """Install it; return when its components have started."""
    cluster.apply(_object("v1", "Namespace", NAMESPACE, namespace=None))
    cluster.apply(*_secrets(), *_settings(), *_rights())
    cluster.apply(
        _object("batch/v1", "Job", "airflow-run-airflow-migrations", spec=_job("airflow db migrate"))
    )
    wait = ("wait", "--for=condition=complete", "--timeout=10m")
    cluster(*wait, f"--namespace={NAMESPACE}", "job/airflow-run-airflow-migrations")
    cluster.apply(*(_component(name) for name in COMPONENTS), _service())
    for name in COMPONENTS:
        status = ("rollout", "status", "--timeout=10m", f"--namespace={NAMESPACE}")
        cluster(*status, f"deployment/airflow-{name}")


def _object(
    version: str, kind: str, name: str, namespace: str | None = NAMESPACE, **fields: Any
) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def _secrets() -> list[dict[str, Any]]:
    user, password = "airflow-logs", platform.BUCKETS["airflow-logs"]
    extra = {"endpoint_url": platform.STORE, "region_name": platform.REGION}
    connections = {
        "mlflow_default": {
            "conn_type": "mlflow",
            "host": "http://mlflow.mlflow",
            "port": 5000,
            "extra": {"token_file": "/var/run/secrets/mlflow/token"},
        },
        "logs": {"conn_type": "aws", "login": user, "password": password, "extra": extra},
    }
    fernet_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    values = {name: {key: secrets.token_hex(64)} for name, (key, _) in SECRETS.items()}
    values[VALUES["fernetKeySecretName"]] = {"fernet-key": fernet_key}
    values[VALUES["data"]["metadataSecretName"]] = {"connection": platform.database("airflow")}
    values["airflow-connections"] = {
        f"AIRFLOW_CONN_{name.upper()}": json.dumps(fields) for name, fields in connections.items()
    }
    return [_object("v1", "Secret", name, stringData=data) for name, data in values.items()]


def _settings() -> list[dict[str, Any]]:
    config = configparser.RawConfigParser()
    for part in (CHART, VALUES["config"], TESTS):
        config.read_dict(part)
    written = io.StringIO()
    config.write(written)
    return [
        _object("v1", "ConfigMap", "airflow-config", data={"airflow.cfg": written.getvalue()}),
        _object(
            "v1", "ConfigMap", "airflow-pod-template", data={"pod_template_file.yaml": VALUES["podTemplate"]}
        ),
    ]


def _rights() -> list[dict[str, Any]]:
    """Return the objects that let only the scheduler start pods."""
    verbs = ["create", "delete", "get", "list", "patch", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": verbs},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "airflow-pod-launcher"}
    account = {"kind": "ServiceAccount", "name": "airflow-scheduler", "namespace": NAMESPACE}
    return [
        *(_object("v1", "ServiceAccount", f"airflow-{name}") for name in (*COMPONENTS, "worker")),
        _object("rbac.authorization.k8s.io/v1", "Role", "airflow-pod-launcher", rules=rules),
        _object(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            "airflow-pod-launcher",
            roleRef=role,
            subjects=[account],
        ),
    ]


def _pod(command: str, **fields: Any) -> dict[str, Any]:
    image = VALUES["images"]["airflow"]
    container = {
        "name": "airflow",
        "image": f"{image['repository']}:{image['tag']}",
        "args": ["bash", "-c", f"exec {command}"],
        "env": [
            {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}
            for name, (key, variable) in SECRETS.items()
        ],
        "envFrom": yaml.safe_load(VALUES["extraEnvFrom"]),
        "volumeMounts": [
            {"name": "config", "mountPath": "/opt/airflow/airflow.cfg", "subPath": "airflow.cfg"},
            {"name": "pod-template", "mountPath": "/opt/airflow/pod_templates"},
            *VALUES["volumeMounts"],
        ],
        **fields.pop("container", {}),
    }
    volumes = [
        {"name": "config", "configMap": {"name": "airflow-config"}},
        {"name": "pod-template", "configMap": {"name": "airflow-pod-template"}},
        *VALUES["volumes"],
    ]
    return {"containers": [container], "volumes": volumes, **fields}


def _job(command: str) -> dict[str, Any]:
    return {"template": {"spec": _pod(command, restartPolicy="OnFailure")}}


def _component(name: str) -> dict[str, Any]:
    labels = {"tier": "airflow", "component": name, "release": "airflow"}
    container = {}
    if name == "api-server":
        ready = {
            "httpGet": {"path": "/api/v2/version", "port": 8080},
            "periodSeconds": 5,
            "timeoutSeconds": 10,
        }
        container = {"readinessProbe": ready}
    pod = _pod(f"airflow {name}", container=container, serviceAccountName=f"airflow-{name}")
    template = {"metadata": {"labels": labels}, "spec": pod}
    return _object(
        "apps/v1",
        "Deployment",
        f"airflow-{name}",
        spec={"selector": {"matchLabels": labels}, "template": template},
    )


def _service() -> dict[str, Any]:
    spec = {"selector": {"component": "api-server", "tier": "airflow"}, "ports": [{"port": 8080}]}
    return _object("v1", "Service", "airflow-api-server", spec=spec)
