"""Facts about processes: their identity, whether they are alive, their descendants. Independent of etcd and locks."""
