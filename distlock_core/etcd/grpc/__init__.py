"""The driver for gRPC, with the package `etcd3`."""
