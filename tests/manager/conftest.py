"""Managers, in this process and in others, that are gone when the test is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Callable

import pytest

from distlock_core import LockManager, Realm, connect
from distlock_core.testing import Cluster, Proxy
from tests.support.managers import Remote


@pytest.fixture
def realm(proxy: Proxy, realm_prefix: str) -> Iterator[Realm]:
    with connect(proxy.url, realm_prefix) as realm:
        yield realm


@pytest.fixture
def stand(realm: Realm, proxy: Proxy) -> Iterator[Callable[..., LockManager]]:
    """stand(name="x", ttl=3, realm=..., **options) -> LockManager, behind the proxy, shut down with the test."""
    managers: list[LockManager] = []

    def stand(name: str | Sequence[str] = "x", ttl: int = 3, realm: Realm = realm, **options: Any) -> LockManager:
        managers.append(LockManager(realm, name, ttl, **options))
        return managers[-1]

    yield stand
    proxy.heal()
    for manager in managers:
        manager.shutdown()


@pytest.fixture
def stand_apart(etcd: Cluster, realm_prefix: str) -> Iterator[Callable[..., Remote]]:
    """stand_apart(**options) -> Remote, straight at etcd."""
    remotes: list[Remote] = []

    def stand(**options: Any) -> Remote:
        remotes.append(Remote(etcd.endpoints[0], realm_prefix, **{"ttl": 3, **options}))
        return remotes[-1]

    yield stand
    for remote in remotes:
        remote.end()
