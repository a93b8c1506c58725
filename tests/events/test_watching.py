"""Watching: all events of a lock are reported in order, once, without omissions."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Callable

import pytest

from distlock_core import Cancelled, ConfigError, EtcdUnavailable, Interrupt, connect
from distlock_core.errors import AnotherCluster
from distlock_core.etcd.values import Event
from distlock_core.events import follow as following
from distlock_core.events.watch import Watching
from distlock_core.testing import Cluster, Proxy
from tests.support.scene import BOUND, PROMPT, WATCH, Scene, until
from tests.support.watch_reader import Reader


@pytest.fixture
def follow() -> Iterator[Callable[[Watching], Reader]]:
    """follow(watch) -> a Reader, ended with the test."""
    readers: list[Reader] = []

    def start(watch: Watching) -> Reader:
        readers.append(Reader(watch))
        return readers[-1]

    yield start
    for reader in readers:
        reader.end()


Follow = Callable[[Watching], Reader]


def cycle(scene: Scene, name: str = "db", times: int = 1) -> list[tuple[str, int]]:
    """Acquire and release the lock `times` times; return the events that a watch has to report."""
    realm = scene.realm(*scene.endpoints)
    lock = realm.lock(name)
    told = []
    for _ in range(times):
        with lock:
            told.append(("acquired", lock.token))
        told.append(("released", told[-1][1]))
    realm.close()
    return told


def descriptors() -> set[str]:
    """What is open in this process, whatever its number."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing
            found.add(os.readlink(f"/proc/self/fd/{name}"))
    return found


# Reported events.


def test_a_watch_begins_with_the_present_state_and_continues(scene: Scene, follow: Follow) -> None:
    lock = scene.realm().lock("db", "me", reason="why", value="10.1.1.1").acquire()
    token = lock.token
    reader = follow(scene.realm().watch("db"))
    (event,) = reader.wait(("acquired", token))
    assert (event.lock, event.owner, event.token, event.value) == ("db", "me", token, "10.1.1.1")
    assert (event.holder, event.revision, event.ended) == (lock.holder, token, None)
    lock.update("10.1.1.2")
    (event,) = reader.wait(("changed", token))
    assert (event.value, event.holder, event.revision) == ("10.1.1.2", lock.holder, lock.holder.mod_revision)
    last = lock.holder
    lock.release()
    (event,) = reader.wait(("released", token))
    assert (event.holder, event.value) == (last, "10.1.1.2")
    assert event.revision > last.mod_revision
    assert (event.ended.how, event.ended.by, event.ended.token) == ("released", "me", token)


def test_a_watch_reports_who_broke_a_lock_if_it_is_recorded(scene: Scene, follow: Follow) -> None:
    reader = follow(scene.realm().watch("db"))
    token = scene.realm().lock("db", "me").acquire().token
    scene.realm().unlock("db", "admin", force=True)
    _, broken = reader.wait(("acquired", token), ("released", token))
    assert (broken.ended.how, broken.ended.by) == ("broken", "admin")
    token = scene.put("db")
    scene.delete("db")
    _, deleted = reader.wait(("acquired", token), ("released", token))
    assert deleted.ended is None


def test_the_end_of_a_lease_is_reported(scene: Scene, follow: Follow) -> None:
    reader = follow(scene.realm().watch("db"))
    lock = scene.realm().lock("db", ttl=10, background=False).acquire()
    assert lock.lease is not None
    scene.revoke(lock.lease)
    assert reader.wait(("acquired", lock.token), ("released", lock.token))[1].ended is None


@pytest.mark.parametrize("state", ["kept", "cooling"])
def test_another_state_of_a_hold_is_a_change(scene: Scene, follow: Follow, state: str) -> None:
    reader = follow(scene.realm().watch("db"))
    lock = scene.realm().lock("db").acquire()
    token = lock.token
    lock.keep("look at it") if state == "kept" else lock.cool(60)
    _, changed = reader.wait(("acquired", token), ("changed", token))
    assert changed.holder.record.state == state


def test_a_run_that_enters_a_step_and_leaves_it_are_changes(scene: Scene, follow: Follow) -> None:
    step = scene.realm().lock("db", "me", step=True).acquire()
    reader = follow(scene.realm().watch("db"))
    reader.wait(("acquired", step.token))
    with scene.realm().lock("db", "me", reason="inside"):
        pass
    entered, left = reader.wait(("changed", step.token), ("changed", step.token))
    assert (entered.holder.reason, left.holder.reason) == ("inside", "")
    step.release()


def test_every_slot_is_reported(scene: Scene, follow: Follow) -> None:
    reader = follow(scene.realm().watch("db"))
    locks = [scene.realm().lock("db", slots=3, value=str(number)).acquire() for number in range(3)]
    tokens = [lock.token for lock in locks]
    events = reader.wait(*(("acquired", token) for token in tokens))
    assert [(event.holder.slot, event.value) for event in events] == [(0, "0"), (1, "1"), (2, "2")]
    locks[1].release()
    assert reader.wait(("released", tokens[1]))[0].holder.slot == 1
    second = follow(scene.realm().watch("db"))
    second.wait(("acquired", tokens[0]), ("acquired", tokens[2]))
    locks[0].release()
    locks[2].release()
    reader.wait(("released", tokens[0]), ("released", tokens[2]))


def test_neighbours_the_queue_and_keys_that_are_no_lock_are_left_out(scene: Scene, follow: Follow) -> None:
    reader = follow(scene.realm().watch("db"))
    holder = scene.realm().lock("db").acquire()
    waiting = scene.queue(scene.realm().lock("db"))
    for other in ("db-2", "db.x", "db2", "d", "db/odd", "db/queue/x", "__freeze", "__internal_lock/7", "\u00fc"):
        scene.put(other)
        scene.delete(other)
    token = holder.token
    holder.release()
    next_one = waiting.result(BOUND)
    reader.wait(("acquired", token), ("released", token), ("acquired", next_one.token))
    next_one.release()


def test_a_realm_is_watched_whole(scene: Scene, follow: Follow) -> None:
    first = scene.realm().lock("web").acquire()
    reader = follow(scene.realm().watch())
    reader.wait(("acquired", first.token))
    token = scene.put("db")
    waiting = scene.queue(scene.realm().lock("db"))
    scene.put("__freeze", "1;admin;{}")
    scene.put("__internal_lock/7")
    scene.delete("__internal_lock/7")
    scene.delete("__freeze")
    scene.delete("db")
    mine = waiting.result(BOUND)
    events = reader.wait(("acquired", token), ("released", token), ("acquired", mine.token))
    assert [event.lock for event in events] == ["db", "db", "db"]
    slot = scene.realm().lock("slots", slots=2).acquire()
    other = scene.realm().lock("slots", slots=2).acquire()
    events = reader.wait(("acquired", slot.token), ("acquired", other.token))
    assert [(event.lock, event.holder.slot) for event in events] == [("slots", 0), ("slots", 1)]
    connect(scene.cluster.endpoints, scene.prefix[:-1] + "2/").lock("elsewhere").acquire().release()
    token = first.token
    first.release()
    assert reader.wait(("released", token))[0].lock == "web"


def test_an_invalid_record_is_reported_nevertheless(scene: Scene, follow: Follow) -> None:
    reader = follow(scene.realm().watch("db"))
    token = scene.put("db", "no record \udcff".encode("utf-8", "surrogateescape").decode("latin-1"))
    assert reader.wait(("acquired", token))[0].owner is None
    again = scene.replace("db", "1500000000;node-1;text of the original")
    assert reader.wait(("released", token), ("acquired", again))[1].owner == "node-1"


def test_every_end_in_a_realm_has_its_own_note(scene: Scene) -> None:
    """The note of the first is gone by the time that the watch is read: the events beside the deletions have it."""
    with scene.realm().watch() as watching:
        interrupt = Interrupt()
        watching.skip_present(interrupt)
        told = cycle(scene, times=3)
        seen: list[Any] = []
        while len(seen) < len(told):
            seen += watching.poll(interrupt)
        assert [(event.kind, event.token) for event in seen] == told
        assert [event.ended.token for event in seen if event.ended] == [token for _, token in told[::2]]
        interrupt.close()


def test_what_is_there_already_can_be_skipped(scene: Scene) -> None:
    lock = scene.realm().lock("db").acquire()
    token = lock.token
    with scene.realm().watch() as watching:
        interrupt = Interrupt()
        watching.skip_present(interrupt)
        lock.release()
        (released,) = watching.poll(interrupt)
        assert (released.kind, released.token) == ("released", token)
        interrupt.set()
        with pytest.raises(Cancelled):
            watching.poll(interrupt)
        interrupt.close()


def test_a_name_that_is_none_is_refused(scene: Scene) -> None:
    with pytest.raises(ConfigError, match="illegal lock name"):
        scene.realm().watch("a/b")


# Nothing is left out.


def test_all_changes_between_two_reads_are_reported_in_order(scene_each: Scene) -> None:
    first = scene_each.put("db")
    with scene_each.realm().watch("db") as watch:
        assert next(watch).token == first
        scene_each.delete("db")
        told = [("released", first), *cycle(scene_each, times=30)]
        events = [next(watch) for _ in told]
    assert [(event.kind, event.token) for event in events] == told
    revisions = [event.revision for event in events]
    assert revisions == sorted(set(revisions))


def test_an_outage_leaves_nothing_out(scene: Scene, proxy: Proxy, follow: Follow) -> None:
    reader = follow(scene.realm(proxy.url, connect_timeout=1).watch("db"))
    reader.wait(*cycle(scene))
    proxy.cut()
    told = cycle(scene, times=5)
    proxy.heal()
    reader.wait(*told)


def test_constantly_breaking_streams_omit_and_repeat_nothing(scene: Scene, proxy: Proxy, follow: Follow) -> None:
    reader = follow(scene.realm(proxy.url).watch())
    reader.wait(*cycle(scene))
    told = []
    for number in range(6):
        told += cycle(scene, f"db-{number % 3}")
        until(proxy.break_streams)
    reader.wait(*told)


def test_a_watch_that_hangs_is_noticed_by_reading_again(
    scene: Scene, proxy: Proxy, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "REREAD", 0.5)
    reader = follow(scene.realm(proxy.url, scene.endpoints[0], connect_timeout=1).watch("db"))
    reader.wait(*cycle(scene))
    proxy.blackhole()  # as a member that was stopped: its connections stay open
    reader.wait(*cycle(scene, times=3))


def test_a_gap_left_by_a_compaction_is_filled_by_a_re_read(
    scene_each: Scene, proxy_each: Proxy, follow: Follow
) -> None:
    lock = scene_each.realm().lock("db").acquire()
    other = scene_each.realm().lock("other").acquire()
    stays = scene_each.realm().lock("stays").acquire()
    reader = follow(scene_each.realm(proxy_each.url, connect_timeout=1).watch())
    reader.wait(("acquired", lock.token), ("acquired", other.token), ("acquired", stays.token))
    proxy_each.cut()
    before, gone = lock.token, other.token
    lock.release()
    cycle(scene_each, times=5)
    lock.acquire()
    other.release()
    stays.update("10.1.1.1")
    scene_each.cluster.etcdctl("compact", str(scene_each.put("last")))
    proxy_each.heal()
    last = scene_each.get("last").create_revision  # type: ignore[union-attr]
    until(lambda: len(reader.events) >= 5)
    told = [(event.kind, event.token) for event in reader.events]
    assert sorted(told[:2]) == [("released", before), ("released", gone)]
    assert told[2:] == [("acquired", lock.token), ("changed", stays.token), ("acquired", last)]
    reader.events.clear()
    reader.wait(*cycle(scene_each, "again", times=3))


def test_a_compaction_while_nothing_changes_is_survived(scene: Scene, proxy: Proxy, follow: Follow) -> None:
    reader = follow(scene.realm(proxy.url).watch("db"))
    reader.wait(*cycle(scene))
    for _ in range(3):
        scene.cluster.etcdctl("compact", str(scene.put("other")))
        proxy.break_streams()
        reader.wait(*cycle(scene))


class Deaf:
    """An etcd whose watches miss every DELETE, as those of servers before 3.4.36 and 3.5.18 can."""

    def __init__(self, etcd: Any, hears: Callable[[Event], bool]) -> None:
        self._etcd = etcd
        self._hears = hears

    def __getattr__(self, name: str) -> Any:
        return getattr(self._etcd, name)

    def watch(self, *arguments: Any, **options: Any) -> Any:
        return DeafWatch(self._etcd.watch(*arguments, **options), self._hears)


class DeafWatch:
    def __init__(self, watch: Any, hears: Callable[[Event], bool]) -> None:
        self._watch = watch
        self._hears = hears

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watch, name)

    def wait(self, patience: Any) -> Sequence[Event]:
        return [event for event in self._watch.wait(patience) if self._hears(event)]


@pytest.mark.parametrize(
    "hears", [lambda event: not event.deleted, lambda _: False], ids=["misses every DELETE", "hears nothing"]
)
def test_changes_that_a_watch_misses_are_found_by_rereading(
    scene: Scene, follow: Follow, monkeypatch: pytest.MonkeyPatch, hears: Callable[[Event], bool]
) -> None:
    for name, seconds in (("REREAD", 0.5), ("ON_ITS_WAY", 0.1), ("HISTORY", 0.3)):
        monkeypatch.setattr(following, name, seconds)
    realm = scene.realm()
    realm._etcd = Deaf(realm._etcd, hears)
    reader = follow(realm.watch("db"))
    lock = scene.realm().lock("db").acquire()
    token = lock.token
    reader.wait(("acquired", token))
    lock.release()
    (event,) = reader.wait(("released", token))
    assert event.ended.how == "released"
    lock.acquire()
    reader.wait(("acquired", lock.token))
    lock.release()


class Late:
    """An etcd in which something happens before the first watch is open."""

    def __init__(self, etcd: Any, first: Callable[[], Any]) -> None:
        self._etcd = etcd
        self._first: Callable[[], Any] | None = first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._etcd, name)

    def watch(self, *arguments: Any, **options: Any) -> Any:
        first, self._first = self._first, None
        if first is not None:
            first()
        return self._etcd.watch(*arguments, **options)


def test_a_change_between_a_read_and_the_watch_is_reported_at_once(scene: Scene, follow: Follow) -> None:
    first, second = scene.put("a"), scene.put("b")
    realm = scene.realm()
    realm._etcd = Late(realm._etcd, lambda: scene.delete("b"))
    watch = realm.watch()
    assert [next(watch).token, next(watch).token] == [first, second]
    scene.delete("a")  # seen by the read that comes before the watch, and "b" is not
    follow(watch).wait(("released", first), ("released", second), within=PROMPT)


def test_another_history_ends_it_and_is_named(
    start_etcd: Callable[..., Cluster], realm_prefix: str, follow: Follow
) -> None:
    """As after a restore, or with another etcd in its place: the same cluster by its id, with younger revisions."""
    with start_etcd() as cluster:
        scene = Scene(cluster, realm_prefix)
        cycle(scene, times=10)
        first = scene.put("db")
        realm = scene.realm(connect_timeout=1)
        reader = follow(realm.watch("db"))
        reader.wait(("acquired", first))
        member = cluster.members[0]
        member.stop()
        shutil.rmtree(member.data_dir)
        member.start()
        cluster.wait_ready()
        until(lambda: reader.trouble is not None)
        assert isinstance(reader.trouble, AnotherCluster)
        assert "or one that was restored from a backup: its revision is " in str(reader.trouble)
        # A new watch begins with the present state.
        again = Scene(cluster, realm_prefix)
        newer = again.put("db", "1;someone;of the backup")
        assert newer < first
        reader = follow(again.realm().watch("db"))
        reader.wait(("acquired", newer))
        again.delete("db")
        reader.wait(("released", newer))
        again.close()
        scene.close()


# Members that die.


def test_a_watch_survives_its_member_being_killed_paused_and_restarted(
    cluster3: Cluster, realm_prefix: str, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "REREAD", 1.0)
    scene = Scene(cluster3, realm_prefix)
    realm = scene.realm()
    reader = follow(realm.watch("db"))
    reader.wait(*cycle(scene))
    by_url = {member.client_url: member for member in cluster3.members}
    for fault, mend in (("kill", "restart"), ("pause", "resume"), ("terminate", "restart")):
        member = by_url[realm._etcd.endpoint]
        getattr(member, fault)()
        others = [url for url in by_url if url != member.client_url]
        apart = Scene(cluster3, realm_prefix, others)
        reader.wait(*cycle(apart, times=3))
        apart.close()
        getattr(member, mend)()
        cluster3.wait_ready()
    reader.wait(*cycle(scene))
    scene.close()


def test_a_watch_survives_a_restart_of_the_only_member(
    start_etcd: Callable[..., Cluster], realm_prefix: str, follow: Follow
) -> None:
    with start_etcd() as cluster:
        scene = Scene(cluster, realm_prefix)
        token = scene.put("db")
        reader = follow(scene.realm().watch("db"))
        reader.wait(("acquired", token))
        cluster.members[0].kill()
        cluster.members[0].restart()
        cluster.wait_ready()
        scene.delete("db")
        reader.wait(("released", token))
        reader.wait(*cycle(scene, times=3))
        reader.end()
        scene.close()


# The end.


def test_it_ends_at_once_when_it_is_closed_from_another_thread(scene: Scene) -> None:
    before, others = descriptors(), set(threading.enumerate())
    realm = scene.realm()
    watch = realm.watch("db")
    reader = Reader(watch)
    reader.wait(*cycle(scene))
    started = time.monotonic()
    reader.end()
    assert time.monotonic() - started < 5  # below the 10 s after which it reads again in any case
    assert reader.trouble is None
    watch.close()
    assert list(watch) == []
    realm.close()
    until(lambda: descriptors() <= before)
    assert not [thread for thread in set(threading.enumerate()) - others if thread.name.startswith("distlock")]


@pytest.mark.parametrize("outage", ["cut", "blackhole"])
def test_it_ends_at_once_while_etcd_is_away(scene: Scene, proxy: Proxy, outage: str) -> None:
    reader = Reader(scene.realm(proxy.url, connect_timeout=100).watch("db"))
    reader.wait(*cycle(scene))
    getattr(proxy, outage)()
    proxy.break_streams()
    reader.end()  # far below what a call may take


def test_a_watch_that_was_never_begun_can_be_closed(scene: Scene) -> None:
    watch = scene.realm().watch()
    watch.close()
    assert list(watch) == []


def test_a_signal_handler_may_close_it(scene: Scene) -> None:
    watch = scene.realm().watch("db")
    token = scene.put("db")
    before = signal.signal(signal.SIGALRM, lambda *_: watch.close())
    try:
        assert next(watch).token == token
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert list(watch) == []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_two_readers_share_the_events_and_both_end(scene: Scene) -> None:
    watch = scene.realm().watch("db")
    readers = [Reader(watch), Reader(watch)]
    told = cycle(scene, times=5)
    until(lambda: sum(len(reader.events) for reader in readers) == len(told))
    seen = sorted((event.revision, event.kind, event.token) for reader in readers for event in reader.events)
    assert [(kind, token) for _, kind, token in seen] == told
    for reader in readers:
        reader.end()
        assert reader.trouble is None


def test_a_cancelled_reader_misses_nothing(scene: Scene) -> None:
    with scene.realm().watch("db") as watch:
        token = scene.put("db")
        assert next(watch).token == token
        for _ in range(3):
            interrupt = Interrupt()
            timer = threading.Timer(0.05, interrupt.set)
            timer.start()
            with pytest.raises(Cancelled):
                watch.take(interrupt)
            timer.join()
            interrupt.close()
        scene.delete("db")
        assert next(watch).kind == "released"


def test_without_an_etcd_it_fails_at_the_beginning(scene: Scene, proxy: Proxy) -> None:
    proxy.cut()
    watch = scene.realm(proxy.url, connect_timeout=1.5).watch("db")
    with pytest.raises(EtcdUnavailable, match="no etcd answered"):
        next(watch)
    proxy.heal()
    token = scene.put("db")
    assert next(watch).token == token
    watch.close()


def test_one_watch_costs_etcd_one_stream_and_no_commit(scene: Scene, proxy: Proxy, follow: Follow) -> None:
    reader = follow(scene.realm(proxy.url).watch())
    reader.wait(*cycle(scene, times=3))
    assert len(proxy.wait_for_requests(WATCH)) == 1
    assert proxy.streams == 1
