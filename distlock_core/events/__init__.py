"""What is told about locks: watches, ownership, notices, a loss. Imports `model`, `etcd` and `base`."""
