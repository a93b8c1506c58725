"""Access to etcd: users and passwords, TLS, and diagnosis of missing rights."""
