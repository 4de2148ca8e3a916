"""Cenote: a cluster's host memory as one pool that holds every model.

    import cenote
    cluster = cenote.connect()
    cluster.deploy(module, (example,), name="mine")
    answer = cluster.infer("mine", array)

Importing this package loads neither torch nor the native module; both come with the first call that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cenote.errors import Error

if TYPE_CHECKING:
    from cenote.cluster import Cluster

__version__ = "0.1.0"
__all__ = ["Cluster", "Error", "connect", "__version__"]


def connect(cluster: str | None = None, *, certificates: str | None = None) -> Cluster:
    """A running cluster: by name or state directory (None: the only one there is), or by controller `HOST:PORT`."""
    from cenote.cluster import Cluster

    return Cluster.connect(cluster, certificates=certificates)


def __getattr__(name: str) -> Any:
    if name == "Cluster":
        from cenote.cluster import Cluster

        return Cluster
    raise AttributeError(f"module 'cenote' has no attribute {name!r}")
