"""etcd over gRPC, with the package `etcd3`."""
