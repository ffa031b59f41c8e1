"""A Kubernetes cluster of one node for machines without kind, built from the Go module proxy and Debian.

``python -m dev.cluster up`` starts it and prints its kubeconfig, ``down`` stops it. The Kubernetes suite
starts its own if ``KUBECONFIG`` is not set.
"""
