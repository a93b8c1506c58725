"""The realm of a test looked at from outside."""

from __future__ import annotations

import pytest
from seen import Seen

from distlock_core.testing import Cluster


@pytest.fixture
def seen(etcd: Cluster, realm_prefix: str) -> Seen:
    """What is in the test's own realm, past the code under test, and the leases behind it."""
    return Seen(etcd, realm_prefix)
