"""Names, keys, records and the state of a lock, and the sentences about them: pure. Imports `etcd.values` at most."""
