"""The client of etcd v3: `client` and `values` are its interface, `http` and `grpc` the drivers. Imports `base`."""
