"""The seam to etcd v3: `api` is what the rest may rely on, `gateway` the driver over etcd's JSON gateway."""
