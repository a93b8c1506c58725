"""Members die, hang, and are restarted one by one, with TLS and users too: no waiter or holder is disturbed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Callable

import pytest

from distlock_core.testing import Cluster, Member, Tls
from tests.support.secured_site import BOUND, Site, Spawn, line_of, queued, wait_until

TTL = 11  # seconds: longer than an election and a restart, shorter than all three together


@pytest.fixture(params=["plain-http", "auth-http", "auth-grpc"])
def site3(
    request: pytest.FixtureRequest, start_etcd: Callable[..., Cluster], tls: Tls, realm_prefix: str
) -> Iterator[Site]:
    """Three members, plain, or with TLS and users, and how they are spoken to."""
    security, transport = request.param.split("-")
    with start_etcd(3, tls=tls if security == "auth" else None) as cluster:
        if security == "auth":
            cluster.enable_auth()
        site = Site(cluster, realm_prefix)
        site = site.node("node") if security == "auth" else site
        site.settings["transport"] = transport
        yield site


def test_a_cluster_restarted_member_by_member_disturbs_neither_a_wait_nor_a_hold(
    site3: Site, spawn_distlock: Spawn
) -> None:
    command = ("--lock-name=x", f"--ttl={TTL}", "--quiet", "--", "sh", "-c", "echo in; cat")
    holder = spawn_distlock(*command, env=site3.env, stdin=subprocess.PIPE)
    assert line_of(holder) == "in"
    waiter = spawn_distlock(*command, env=site3.env, stdin=subprocess.PIPE)
    queued(site3, "x")
    place = site3.realm().show("x").waiters
    token = site3.realm().show("x").holders[0].token
    since = time.monotonic()
    # The leader in the middle: by then what was on it has gone elsewhere once, and goes elsewhere again.
    leader = site3.cluster.leader()
    others = [member for member in site3.cluster.members if member is not leader]
    for member in (others[0], leader, others[1]):
        member.restart()
        site3.cluster.wait_ready()
        assert (holder.poll(), waiter.poll()) == (None, None), (holder.stderr.read(), waiter.stderr.read())
    wait_until(lambda: time.monotonic() - since > TTL + 1, "longer than the lease lives unrenewed")
    state = site3.realm().show("x")
    assert (state.holders[0].token, state.waiters) == (token, place)
    holder.stdin.close()
    assert (holder.wait(BOUND), holder.stderr.read()) == (0, "")
    assert line_of(waiter) == "in"
    waiter.stdin.close()
    assert (waiter.wait(BOUND), waiter.stderr.read()) == (0, "")
    assert site3.realm().list() == []


@pytest.mark.parametrize("fault", [Member.kill, Member.pause], ids=["killed", "paused"])
def test_a_member_in_use_that_fails_is_replaced_with_tls_and_users_too(
    start_etcd: Callable[..., Cluster], tls: Tls, realm_prefix: str, fault: Callable[[Member], None]
) -> None:
    with start_etcd(3, tls=tls) as cluster:
        cluster.enable_auth()
        site = Site(cluster, realm_prefix)
        in_use = cluster.leader()
        others = [member.client_url for member in cluster.members if member is not in_use]
        realm = site.realm(in_use.client_url, *others, connect_timeout=15.0)
        lock = realm.lock("x", ttl=20, refresh=1.0).acquire(0)
        assert realm._etcd.endpoint == in_use.client_url
        fault(in_use)
        since = time.monotonic()
        assert lock.verify()
        assert time.monotonic() - since < 15
        assert realm._etcd.endpoint in others
        # The watch on that member is silent, or gone: what happens to the lock is noticed all the same.
        site.realm(*others, connect_timeout=15.0).unlock("x")
        since = time.monotonic()
        assert lock.lost.wait(BOUND)
        assert time.monotonic() - since < 15
