"""Start or stop the cluster: ``python -m dev.cluster up|down``."""

import sys

from dev import MissingError
from dev.cluster import node

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["up"]:
            try:
                cluster = node.start()
            except MissingError as error:
                sys.exit(str(error))
            print(f"export KUBECONFIG={cluster.kubeconfig}")
        case ["down"]:
            node.stop()
        case _:
            sys.exit(__doc__)
