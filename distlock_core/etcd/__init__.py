"""The seam to etcd v3: `api` is what the rest may rely on, `gateway` and `grpc` are the drivers."""
