"""Real etcd for tests and demos: members that can be stopped, killed and paused, and a proxy that provokes faults.

Needs only the standard library and an etcd binary. Everything listens on loopback, on free ports.
"""

from __future__ import annotations

from distlock_core.embedded.binary import BinaryNotFound, etcd_version, find_etcd, find_etcdctl
from distlock_core.embedded.certificates import Authority, Certificate
from distlock_core.embedded.cluster import Cluster, EtcdctlError
from distlock_core.embedded.member import Member, NotReady, NotStarted
from distlock_core.embedded.secured import Tls, environment
from distlock_core.testing.faults import Proxy
from distlock_core.testing.held import Held

__all__ = [
    "Authority",
    "BinaryNotFound",
    "Certificate",
    "Cluster",
    "EtcdctlError",
    "Held",
    "Member",
    "NotReady",
    "NotStarted",
    "Proxy",
    "Tls",
    "environment",
    "etcd_version",
    "find_etcd",
    "find_etcdctl",
]
