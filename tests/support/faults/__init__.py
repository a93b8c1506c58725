"""Fault injection: commands under locks, a nemesis that disturbs them and etcd, and a checker of what happened."""
