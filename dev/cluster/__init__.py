"""Kubernetes for the tests: a platform and Airflow in any cluster, and a cluster for machines without kind.

That cluster has one node, and is built from the Go module proxy and Debian's packages.

``python -m dev.cluster up`` starts it and prints its kubeconfig, ``down`` stops it. The Kubernetes suite
starts its own if ``KUBECONFIG`` is not set.
"""
