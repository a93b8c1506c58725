"""A real etcd for a trial, for demos and for tests: what `distlock-etcd` runs. Imports `errors` and `base`."""
