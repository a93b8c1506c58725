"""Watches, over both drivers on both etcds: hints of events from a revision on, on several ranges at once."""

from __future__ import annotations

import time

import pytest

from distlock_core.base.deadline import Interrupt
from distlock_core.errors import Cancelled
from distlock_core.etcd.values import Put, WatchEnded, prefix_end
from tests.support.contract_cell import BOUND, Cell, Started, events_of, patience, until


def test_a_watch_reports_puts_and_deletes(cell: Cell) -> None:
    start = cell.put("before")
    watch = cell.watch((cell.key("x"), None), revision=start + 1)
    assert watch.endpoint == cell.cluster.endpoints[0]
    put = cell.put("x", b"v")
    deleted = cell.delete("x")
    first, second = events_of(watch, 2)
    assert (first.deleted, first.kv) == (False, (cell.key("x"), b"v", put, put, 0))
    assert (second.deleted, second.kv.key, second.kv.mod_revision) == (True, cell.key("x"), deleted)


def test_a_watch_begins_with_the_past(cell: Cell) -> None:
    start = cell.put("x", b"1")
    cell.put("x", b"2")
    cell.delete("x")
    watch = cell.watch((cell.key("x"), None), revision=start)
    assert [(event.deleted, event.kv.value) for event in events_of(watch, 3)] == [
        (False, b"1"),
        (False, b"2"),
        (True, b""),
    ]


def test_a_watch_that_begins_now_misses_nothing_after_it_is_open(newer: Cell) -> None:
    """etcd begins with one range after the other: what is written as soon as the watch is open may be in the last."""
    ranges = [(newer.key(f"{number:04}"), None) for number in range(1000)]
    newer.put("0999", b"before it is open")
    for _ in range(3):
        watch = newer.watch(*ranges, revision=0)
        written = newer.put("0999", b"after")
        (event,) = events_of(watch, 1)
        assert (event.kv.value, event.kv.mod_revision) == (b"after", written)
        watch.close()


def test_a_watch_reports_nothing_about_other_keys(cell: Cell) -> None:
    start = cell.put("before")
    watch = cell.watch((cell.key("x"), None), revision=start + 1)
    cell.put("x/y")
    cell.put("x0")
    assert watch.wait(patience(0.2)) == []
    cell.put("x")
    assert events_of(watch, 1)[0].kv.key == cell.key("x")


def test_every_range_of_a_watch_is_watched(everywhere: Cell) -> None:
    start = everywhere.put("before")
    names = [f"{number:02}-{'x' * 100}" for number in range(8)]
    ranges = [(everywhere.key(name), None) for name in names]
    whole = (everywhere.key("all/"), prefix_end(everywhere.key("all/")))
    watch = everywhere.watch(*ranges, whole, revision=start + 1)
    for name in [*names, "all/1", "all/2"]:
        everywhere.put(name)
    found = {event.kv.key for event in events_of(watch, len(names) + 2)}
    assert found == {everywhere.key(name) for name in [*names, "all/1", "all/2"]}


def test_a_watch_reports_the_end_of_a_lease(cell: Cell) -> None:
    lease = cell.lease()
    start = cell.put("x", b"", lease)
    watch = cell.watch((cell.key("x"), None), revision=start + 1)
    cell.etcd.revoke(lease, patience())
    assert events_of(watch, 1)[0].deleted


def test_a_watch_reports_what_the_other_driver_has_written(cell: Cell) -> None:
    start = cell.put("before")
    watch = cell.watch((cell.key("x"), None), revision=start + 1)
    cell.other().txn([], [Put(cell.key("x"), b"\xff\x00")], [], patience())
    assert events_of(watch, 1)[0].kv.value == b"\xff\x00"


def test_a_silent_watch_returns_nothing_at_the_deadline(cell: Cell) -> None:
    watch = cell.watch((cell.key("x"), None), revision=cell.put("before") + 1)
    since = time.monotonic()
    assert watch.wait(patience(0.3)) == []
    assert 0.3 <= time.monotonic() - since < 15
    cell.put("x")
    assert events_of(watch, 1)


def test_a_watch_with_no_time_left_returns_events_that_have_arrived(cell: Cell) -> None:
    watch = cell.watch((cell.key("x"), None), revision=cell.put("before") + 1)
    assert watch.wait(patience(0)) == []
    cell.put("x")
    until(lambda: watch.wait(patience(0)))


def test_an_interrupt_ends_the_wait_and_not_the_watch(cell: Cell) -> None:
    watch = cell.watch((cell.key("x"), None), revision=cell.put("before") + 1)
    interrupt = Interrupt()
    waiting = Started(lambda: watch.wait(patience(cancel=interrupt)))
    interrupt.set()
    with pytest.raises(Cancelled):
        waiting.result()
    interrupt.close()
    cell.put("x")
    assert events_of(watch, 1)


def test_a_watch_from_a_revision_that_is_compacted_ends(cell: Cell) -> None:
    start = cell.put("x", b"1")
    now = cell.put("x", b"2")
    cell.cluster.etcdctl("compact", str(now))
    watch = cell.watch((cell.key("x"), None), revision=start)
    with pytest.raises(WatchEnded, match="compact"):
        watch.wait(patience())


def test_a_closed_watch_is_over(cell: Cell) -> None:
    watch = cell.watch((cell.key("x"), None), revision=cell.put("before") + 1)
    watch.close()
    watch.close()
    assert cell.put("x")


def test_a_watch_of_a_lock_ends_when_another_thread_closes_it(newer: Cell) -> None:
    realm = newer.realm()
    with realm.lock("web", "me").acquire(BOUND):
        watching = realm.watch("web")
        assert next(watching).kind == "acquired"
        waiting = Started(lambda: list(watching))
        assert not waiting.done
        watching.close()
        assert waiting.result() == []


def test_a_client_that_is_closed_may_be_used_again(cell: Cell) -> None:
    cell.put("x")
    cell.etcd.close()
    assert cell.get("x") is not None


def test_a_watch_outlives_the_closing_of_its_clients_other_connections(cell: Cell) -> None:
    watch = cell.watch((cell.key("x"), None), revision=cell.put("before") + 1)
    cell.etcd.close()
    cell.put("x")
    assert events_of(watch, 1)


def test_a_burst_of_events_is_reported_whole_and_in_order(newer: Cell) -> None:
    """More events than are ever buffered: etcd has to wait for a reader that does not fetch."""
    start = newer.put("before")
    watch = newer.watch((newer.key("x"), None), revision=start + 1)
    for number in range(20):
        newer.txn(then=[Put(newer.key("x"), b"%d" % number)])
    late = newer.watch((newer.key("x"), None), revision=start + 1)
    for one in (watch, late):
        assert [int(event.kv.value) for event in events_of(one, 20)] == list(range(20))


def test_a_watch_whose_connection_breaks_ends_and_another_continues(newer: Cell) -> None:
    proxy, url = newer.proxy()
    etcd = newer.dial(url)
    start = newer.put("before")
    watch = newer.watch((newer.key("x"), None), revision=start + 1, etcd=etcd)
    first = newer.put("x", b"1")
    assert events_of(watch, 1)
    proxy.cut()
    newer.put("x", b"2")
    with pytest.raises(WatchEnded):
        watch.wait(patience())
    watch.close()
    proxy.heal()
    again = newer.watch((newer.key("x"), None), revision=first + 1, etcd=etcd)
    assert events_of(again, 1)[0].kv.value == b"2"


def test_a_watch_is_opened_at_another_member_when_one_is_silent(newer: Cell) -> None:
    proxy, url = newer.proxy()
    proxy.blackhole()
    etcd = newer.dial(url, *newer.cluster.endpoints)
    start = newer.put("before")
    watch = etcd.watch([(newer.key("x"), None)], start + 1, patience(4))
    newer.opened.insert(0, watch)
    assert watch.endpoint == newer.cluster.endpoints[0]
    newer.put("x")
    assert events_of(watch, 1)


def test_a_watch_of_a_silent_member_is_silent(newer: Cell) -> None:
    """A wait ends neither early nor late."""
    proxy, url = newer.proxy()
    watch = newer.watch((newer.key("x"), None), revision=newer.put("before") + 1, etcd=newer.dial(url))
    proxy.blackhole()
    newer.put("x")
    assert watch.wait(patience(0.3)) == []
    proxy.heal()
    assert events_of(watch, 1)
