"""A real etcd for trials, demos and tests, run by `distlock-etcd`. Imports `errors` and `base`."""
