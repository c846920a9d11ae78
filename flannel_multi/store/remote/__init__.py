"""The store that asks flanneld servers, over flannel's HTTP protocol v1."""

from flannel_multi.store.remote.store import RemoteStore

__all__ = ["RemoteStore"]
