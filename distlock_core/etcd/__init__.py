"""The client of etcd v3: `client` and `values` are its interface, `http` and `grpc` its drivers. Imports `base`."""
