"""The lease store in etcd v3, over its JSON gateway. `store.py` puts it together."""
