"""One lock over etcd v3, honoured by everything that changes a cluster."""
