"""Examination of etcd, of a client's settings and of a realm: `asking.py` asks, and the rest judges what was found."""
