"""Faults on the way to etcd: both drivers agree about doubt, retries and messages."""

from __future__ import annotations

import os
import re
import signal
import time
from functools import partial
from typing import Any, Callable

import pytest

from distlock_core import EtcdUnavailable, Lock, OutcomeUnknown
from distlock_core.base.deadline import Interrupt, Patience
from distlock_core.errors import Cancelled
from distlock_core.etcd.values import Delete, Get, Put, WatchEnded
from distlock_core.testing import Proxy
from tests.support.contract_cell import BOUND, Cell, Started, new_lease, patience, until, wait_until_noticed

NOBODY = "127.0.0.1:9"


def scheme(cell: Cell) -> str:
    return cell.cluster.endpoints[0].partition("://")[0]


# Nobody answers.


def test_the_error_names_every_endpoint_and_its_fault(newer: Cell) -> None:
    proxy, silent = newer.proxy()
    proxy.blackhole()
    refusing = f"{scheme(newer)}://{NOBODY}"
    since = time.monotonic()
    with pytest.raises(EtcdUnavailable) as caught:
        # With time for a machine that asks far away for a name.
        newer.dial(refusing, silent, f"{scheme(newer)}://nowhere.invalid:2379").read([], patience(4.5))
    assert time.monotonic() - since < 10
    assert f"{refusing} (connection refused)" in caught.value.message
    assert f"{silent} (timed out" in caught.value.message
    # Which of the two depends on the resolver of this machine.
    assert re.search(
        r"nowhere\.invalid:2379 \(its name (does not resolve|was not resolved in time)", caught.value.message
    )


def test_a_write_that_could_not_be_sent_is_not_in_doubt(newer: Cell) -> None:
    proxy, url = newer.proxy()
    proxy.cut()
    with pytest.raises(EtcdUnavailable):
        newer.dial(url).txn([], [Put(newer.key("x"), b"")], [], patience(0.7))
    assert newer.get("x") is None


def test_nothing_is_sent_when_no_time_is_left(newer: Cell) -> None:
    with pytest.raises(EtcdUnavailable, match="no time was left"):
        newer.dial().txn([], [Put(newer.key("x"), b"")], [], patience(0))
    assert newer.get("x") is None


@pytest.mark.parametrize("fault", ["cut", "blackhole"])
def test_a_member_that_is_away_leaves_the_others_their_share(newer: Cell, fault: str) -> None:
    proxy, url = newer.proxy()
    getattr(proxy, fault)()
    etcd = newer.dial(url, *newer.cluster.endpoints)
    since = time.monotonic()
    etcd.read([], patience(4))
    assert time.monotonic() - since < 4
    assert etcd.endpoint == newer.cluster.endpoints[0]
    since = time.monotonic()
    etcd.read([], patience(40))  # of which who is away would get half
    assert time.monotonic() - since < 15, "it was not remembered who answered"


def test_a_connection_closed_while_idle_puts_nothing_in_doubt(newer: Cell) -> None:
    proxy, url = newer.proxy()
    etcd = newer.dial(url)
    etcd.read([], patience())
    proxy.cut()
    wait_until_noticed(etcd)
    proxy.heal()
    assert etcd.txn([], [Put(newer.key("x"), b"")], [], patience()).succeeded


def test_a_member_that_died_while_idle_is_replaced_by_another(newer: Cell) -> None:
    proxy, url = newer.proxy()
    etcd = newer.dial(url, *newer.cluster.endpoints)
    etcd.read([], patience())
    assert etcd.endpoint == url
    proxy.cut()
    wait_until_noticed(etcd)
    assert etcd.txn([], [Put(newer.key("x"), b"")], [], patience()).succeeded
    assert etcd.endpoint == newer.cluster.endpoints[0]


def test_a_member_that_comes_back_is_found_again(newer: Cell) -> None:
    proxy, url = newer.proxy()
    etcd = newer.dial(url)
    etcd.read([], patience())
    proxy.cut()
    reading = Started(lambda: etcd.read([Get(newer.key("x"))], patience()))
    with pytest.raises(EtcdUnavailable):
        newer.dial(url).read([], patience(0.3))
    proxy.heal()
    assert reading.result().succeeded


# The reply is lost.


def connected(cell: Cell, *more: str) -> tuple[Proxy, Any]:
    proxy, url = cell.proxy()
    etcd = cell.dial(url, *more)
    etcd.read([], patience())
    return proxy, etcd


@pytest.mark.parametrize("silent", [True, False], ids=["silent", "cut"])
def test_a_write_whose_reply_is_lost_is_in_doubt(newer: Cell, silent: bool) -> None:
    """It is not sent again, not even to another member: it was done, and the second time it would be refused."""
    proxy, etcd = connected(newer, *newer.cluster.endpoints)
    proxy.mute()
    writing = Started(lambda: etcd.txn([], [Put(newer.key("x"), b"")], [], patience(3 if silent else BOUND)))
    until(lambda: newer.get("x") is not None)
    if not silent:
        proxy.cut()
    with pytest.raises(OutcomeUnknown) as caught:
        writing.result()
    assert ("timed out" in caught.value.message) is silent
    found = newer.get("x")
    assert found is not None
    assert found.create_revision == found.mod_revision


def test_a_read_whose_reply_is_lost_is_asked_again(newer: Cell) -> None:
    proxy, etcd = connected(newer, *newer.cluster.endpoints)
    newer.put("x")
    proxy.mute()
    reading = Started(lambda: etcd.read([Get(newer.key("x"))], patience()))
    time.sleep(0.2)  # not to wait for something: only so that it is usually under way
    proxy.cut()
    assert reading.result().ranges()[0].total == 1


def test_a_grant_whose_reply_is_lost_is_sent_again(newer: Cell) -> None:
    proxy, etcd = connected(newer, *newer.cluster.endpoints)
    lease = new_lease()
    proxy.mute()
    granting = Started(lambda: etcd.grant(lease, 30, patience()))
    until(lambda: newer.etcd.time_to_live(lease, patience()))
    proxy.cut()
    assert granting.result() == 30
    newer.etcd.revoke(lease, patience())


def test_a_revoke_whose_reply_is_lost_is_sent_again(newer: Cell) -> None:
    proxy, etcd = connected(newer, *newer.cluster.endpoints)
    lease = newer.lease()
    proxy.mute()
    revoking = Started(lambda: etcd.revoke(lease, patience()))
    until(lambda: not newer.etcd.time_to_live(lease, patience()))
    proxy.cut()
    assert revoking.result() is None


def test_a_claim_whose_reply_is_lost_is_resolved(newer: Cell) -> None:
    proxy, url = newer.proxy()
    lock = newer.realm(newer.dial(url)).lock("web", "me")
    assert not lock.held
    newer.put("web", b"1;other;{}")
    claiming = Started(lambda: lock.acquire(BOUND))
    until(lambda: newer.read(Get(newer.key("web/queue/"), newer.key("web/queue0")))[0].total)
    proxy.mute()
    newer.delete("web")
    proxy.cut()
    proxy.heal()
    held: Lock = claiming.result()
    assert held.verify()
    held.release()


# The caller has had enough.


def test_an_interrupt_ends_a_call_at_once(newer: Cell) -> None:
    proxy, etcd = connected(newer)
    proxy.blackhole()
    asks: tuple[Callable[[Patience], Any], ...] = (
        lambda limit: etcd.read([], limit),
        lambda limit: etcd.txn([], [Delete(newer.key("x"))], [], limit),
        lambda limit: etcd.watch([(newer.key("x"), None)], 1, limit),
        lambda limit: newer.dial(f"{scheme(newer)}://127.0.0.1:{proxy._port}").read([], limit),
    )
    for ask in asks:
        interrupt = Interrupt()
        limit = patience(cancel=interrupt)
        asking = Started(partial(ask, limit))
        time.sleep(0.05)  # not to wait for something: only so that it is usually under way
        interrupt.set()
        since = time.monotonic()
        with pytest.raises(Cancelled):
            asking.result()
        assert time.monotonic() - since < BOUND / 2


def test_a_call_that_times_out_does_not_disconnect_from_etcd(newer: Cell) -> None:
    """etcd 3.5.0 to 3.5.4 would die of it, if it is just reading."""
    proxy, etcd = connected(newer)
    proxy.mute()
    with pytest.raises(EtcdUnavailable, match="timed out"):
        etcd.read([Get(newer.key("x"))], patience(0.3))
    with proxy.changed:
        assert not proxy.changed.wait_for(lambda: not proxy._connections, 0.5), "it has hung up"
    proxy.heal()
    etcd.close()
    with proxy.changed:
        assert proxy.changed.wait_for(lambda: not proxy._connections, BOUND), "it has never hung up"


def test_no_thread_of_a_driver_receives_a_signal(newer: Cell) -> None:
    """Who waits with sigwaitinfo would miss a signal that another thread took: SIGTERM, or SIGCHLD for good."""
    before = set(os.listdir("/proc/self/task"))
    etcd = newer.dial()
    etcd.read([], patience())
    newer.watch((newer.key("x"), None), revision=newer.put("before") + 1, etcd=etcd)
    etcd.grant(new_lease(), 2, patience())
    for task in set(os.listdir("/proc/self/task")) - before:
        try:
            with open(f"/proc/self/task/{task}/status", encoding="ascii") as status:
                blocked = next(int(line.split()[1], 16) for line in status if line.startswith("SigBlk"))
        except FileNotFoundError:
            continue  # it has ended
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGCONT, signal.SIGALRM):
            assert blocked >> number - 1 & 1, signal.Signals(number)


def test_a_forked_child_opens_new_connections_to_etcd(newer: Cell) -> None:
    since = newer.put("before") + 1
    watch = newer.watch((newer.key("x"), None), revision=since)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            newer.etcd.txn([], [Put(newer.key("x"), b"child")], [], patience(10))
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    try:
        events = watch.wait(patience())
    except WatchEnded:
        # gRPC in the child can read from the parent's connection if the fork finds one of its threads busy.
        assert newer.driver == "grpc"
        events = newer.watch((newer.key("x"), None), revision=since).wait(patience())
    assert events[0].kv.value == b"child"
    assert newer.put("x")
