"""Access to etcd: user and password, TLS, and which right is missing."""
