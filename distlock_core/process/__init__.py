"""Facts about processes: which one it is, whether it lives, what it has started. Knows nothing of locks in etcd."""
