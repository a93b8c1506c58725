"""Notifications about locks: watches, ownership, notices, losses. Imports `model`, `etcd` and `base`."""
