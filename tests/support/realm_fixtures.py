"""Fixtures for all tests: the realm of a test, and how to look at it from outside."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from typing import Callable

import pytest

from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_view import Etcd
from tests.support.lease_view import Seen
from tests.support.scene import Scene
from tests.support.scripted_server import Script


@pytest.fixture
def realm_prefix() -> str:
    """A prefix that no other test uses."""
    return f"/t-{secrets.token_hex(6)}/"


@pytest.fixture
def in_etcd(etcd: Cluster, realm_prefix: str) -> Etcd:
    """The content of the test's realm, read without the code under test."""
    return Etcd(etcd, realm_prefix)


@pytest.fixture
def scene(etcd: Cluster, realm_prefix: str) -> Iterator[Scene]:
    """A realm for one test in the shared etcd."""
    scene = Scene(etcd, realm_prefix)
    yield scene
    scene.close()


@pytest.fixture
def scene_each(each_etcd: Cluster, realm_prefix: str) -> Iterator[Scene]:
    """As `scene`, once on the oldest and once on the newest etcd."""
    scene = Scene(each_etcd, realm_prefix)
    yield scene
    scene.close()


@pytest.fixture
def proxy_each(each_etcd: Cluster) -> Iterator[Proxy]:
    """A Proxy in front of that etcd."""
    with Proxy(each_etcd.endpoints[0]) as proxy:
        yield proxy


@pytest.fixture
def script() -> Iterator[Callable[[Callable[[socket.socket], None]], Script]]:
    scripts: list[Script] = []

    def write(answer: Callable[[socket.socket], None]) -> Script:
        scripts.append(Script(answer))
        return scripts[-1]

    yield write
    for one in scripts:
        one.close()


@pytest.fixture
def seen(etcd: Cluster, realm_prefix: str) -> Seen:
    """The content of the test's realm and its leases, read without the code under test."""
    return Seen(etcd, realm_prefix)
