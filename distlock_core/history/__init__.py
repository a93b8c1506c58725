"""History: who held a lock, waited for it and froze it, reconstructed from etcd's own revisions. Writes nothing."""
