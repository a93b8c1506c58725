"""Reading a history from a real etcd: complete, over compactions, restarts, lost rights, and page by page."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core import AccessDenied, DistlockError, EtcdUnavailable, Realm, connect
from distlock_core.base.deadline import Patience
from distlock_core.etcd.values import Delete, Put, WatchEnded
from distlock_core.history import pages, reading, start
from distlock_core.history.history import History
from distlock_core.testing import Cluster, Proxy
from tests.support.realm_view import RealmView
from tests.support.scene import BOUND, WATCH, Scene, gateway, until


def told(history: History, kind: str = "hold") -> list[Any]:
    return [entry for entry in history if entry.kind == kind]


def everything(realm: Realm, **options: Any) -> list[Any]:
    return list(realm.history(**options))


def compact(cluster: Cluster, revision: int) -> None:
    cluster.etcdctl("compact", str(revision), "--physical=true")


def end(scene: Scene, name: str, note: str) -> None:
    """Release a lock with this note."""
    etcd = gateway(*scene.endpoints)
    ops: list[Any] = [Delete(scene.key(name)), Put(scene.key(f"__last/{name}"), note.encode())]
    etcd.txn([], ops, [], Patience.lasting(BOUND))
    etcd.close()


class Follower:
    """Reads a history in a separate thread."""

    def __init__(self, history: History) -> None:
        self.entries: list[Any] = []
        self.trouble: BaseException | None = None
        self._history = history
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for entry in self._history:
                self.entries.append(entry)
        except BaseException as trouble:
            self.trouble = trouble

    def wait_for(self, *wanted: tuple[str, str | None, str | None]) -> None:
        """Wait until these have come last: kind, owner, and how it ended."""
        until(lambda: self.trouble or self._last(len(wanted)) == list(wanted), BOUND + 10)
        assert self.trouble is None

    def _last(self, count: int) -> list[tuple[str, str | None, str | None]]:
        told = [entry for entry in self.entries if entry.kind != "reach"][-count:]
        return [
            (entry.kind, getattr(entry, "owner", None), None if entry.ended is None else entry.ended.how)
            for entry in told
        ]

    def end(self) -> None:
        self._history.close()
        self._thread.join(BOUND)
        assert not self._thread.is_alive()


@pytest.fixture
def follow() -> Iterator[Callable[[History], Follower]]:
    followers: list[Follower] = []

    def begin(history: History) -> Follower:
        followers.append(Follower(history))
        return followers[-1]

    yield begin
    for follower in followers:
        follower.end()


def test_a_history_has_holds_waits_breaks_and_freezes_as_they_were(scene: Scene) -> None:
    began = int(time.time())
    realm = scene.realm()
    first = realm.lock("db", "a", reason="Upgrade").acquire()
    second = realm.lock("db", "b")
    waiting = scene.queue(second)
    given_up = realm.lock("db", "c")
    with pytest.raises(DistlockError):
        given_up.acquire(timeout=0.3)
    tokens = [first.token]
    first.release()
    tokens.append(waiting.result(BOUND).token)
    realm.unlock("db", "admin", force=True)
    realm.freeze("db", owner="admin", reason="audit")
    realm.thaw("db")
    kept = realm.lock("web", "d").acquire()
    kept.keep("exit code 1")
    tokens.append(kept.token if kept.held else realm.show("web").holders[0].token)
    entries: list[Any] = list(realm.history())
    assert [entry.kind for entry in entries] == ["reach", "wait", "hold", "hold", "freeze", "hold"]
    _, left, released, broken, freeze, open_ = entries
    assert (left.owner, left.ended.how) == ("c", "left")
    assert (released.owner, released.reason, released.waited) == ("a", "Upgrade", 0)
    assert (released.ended.how, released.ended.by) == ("released", "a")
    assert (broken.owner, broken.ended.how, broken.ended.by) == ("b", "broken", "admin")
    assert broken.waited is not None
    assert broken.waited <= BOUND
    assert (freeze.lock, freeze.owner, freeze.reason, freeze.ended.how) == ("db", "admin", "audit", "thawed")
    assert (open_.lock, open_.state, open_.phases[-1].reason, open_.ended) == ("web", "kept", "exit code 1", None)
    assert [released.token, broken.token, open_.token] == tokens
    for entry in entries[1:]:
        for moment in entry.moments:
            assert began <= (moment.earliest or began) <= (moment.latest or began) <= time.time() + 1


def test_reading_it_writes_nothing(scene: Scene, etcd: Cluster, realm_prefix: str) -> None:
    realm = RealmView(etcd, realm_prefix)
    with scene.realm().lock("db", "a"):
        pass
    before = realm.revision()
    assert len(told(scene.realm().history())) == 1
    assert realm.revision() == before


def test_a_realm_without_a_past_has_none(scene: Scene) -> None:
    assert [entry.kind for entry in scene.realm().history()] == ["reach"]


def test_each_version_and_transport_tells_the_same(each_etcd: Cluster, realm_prefix: str) -> None:
    with connect(each_etcd.endpoints, realm_prefix).lock("db", "a"):
        pass
    found = [told(connect(each_etcd.endpoints, realm_prefix, transport=one).history()) for one in ("http", "grpc")]
    assert found[0] == found[1]
    assert len(found[0]) == 1


def test_names_choose_locks_and_freezes_of_the_realm_stay(scene: Scene) -> None:
    realm = scene.realm()
    for name in ("a", "b", "b-2", "c"):
        with realm.lock(name):
            pass
    realm.freeze(owner="admin")
    realm.freeze("c", owner="admin")
    assert [hold.lock for hold in told(realm.history(["b", "a"]))] == ["a", "b"]
    assert [freeze.lock for freeze in told(realm.history("a"), "freeze")] == [None]
    assert told(realm.history("none")) == []


def test_since_leaves_out_what_ended_before(scene: Scene) -> None:
    realm = scene.realm()
    scene.put("old", '100;x;{"run":"r"}')
    token = scene.get("old").create_revision  # type: ignore[union-attr]
    end(scene, "old", f'200;x;{{"how":"released","token":{token}}}')
    with realm.lock("new", "a"):
        pass
    scene.put("lasts", '100;y;{"run":"r"}')
    held = told(realm.history(since=time.time() - 60))
    assert "new" in [hold.lock for hold in held]
    assert "lasts" in [hold.lock for hold in held]  # it began long before, and lasts


def test_an_expired_lease_is_no_release(scene: Scene) -> None:
    lease = scene.grant()
    record = f'{int(time.time())};a;{{"run":"r"}}'
    scene.put("db", record, lease)
    scene.revoke(lease)
    (hold,) = told(scene.realm().history())
    assert (hold.ended.how, hold.ended.by, hold.ended.is_sure) == ("expired", None, False)
    assert hold.ended.at.latest is not None


def test_a_cooled_lock_was_released_and_stayed_taken(scene: Scene) -> None:
    realm = scene.realm()
    realm.lock("db", "a").acquire().cool(1)
    until(lambda: not realm.show("db").holders)
    (hold,) = told(realm.history())
    assert [phase.state for phase in hold.phases] == ["held", "cooling"]
    assert (hold.ended.how, hold.ended.by) == ("cooled", "a")
    assert hold.ended.at.at is not None
    assert hold.ended.at.at >= hold.phases[-1].since.at + 1


# Compaction.


def test_what_is_compacted_is_said_and_the_notes_tell_the_last_of_each_lock(
    start_etcd: Callable[..., Cluster], realm_prefix: str
) -> None:
    with start_etcd() as cluster:
        realm = connect(cluster.endpoints, realm_prefix)
        for owner in ("a", "b"):
            with realm.lock("db", owner, reason=f"by {owner}"):
                pass
        lasting = realm.lock("web", "c").acquire()
        compact(cluster, lasting.token)
        with realm.lock("db", "d"):
            pass
        reach, *entries = everything(realm)
        assert (reach.kind, reach.revision, reach.because) == ("reach", lasting.token, "compacted")
        assert [(entry.lock, entry.owner) for entry in entries] == [("db", "b"), ("db", "d"), ("web", "c")]
        assert (entries[0].reason, entries[0].ended.how, entries[0].waited) == ("by b", "released", None)
        assert entries[2].since.at == lasting.holder.since


def test_a_compaction_while_it_is_read_leaves_a_gap(
    start_etcd: Callable[..., Cluster], realm_prefix: str, follow: Callable[[History], Follower]
) -> None:
    with start_etcd() as cluster, Proxy(cluster.endpoints[0]) as proxy:
        realm = connect(cluster.endpoints, realm_prefix)
        stays = realm.lock("stays", "s").acquire()
        goes = realm.lock("goes", "g").acquire()
        follower = follow(connect([proxy.url], realm_prefix, connect_timeout=2).history(follow=True))
        follower.wait_for(("hold", "s", None), ("hold", "g", None))
        proxy.cut()
        goes.release()
        with realm.lock("passed", "p"):
            pass
        scene_key = f"{realm_prefix}new"
        cluster.etcdctl("put", scene_key, f'{int(time.time())};n;{{"run":"r"}}')
        compact(cluster, int(realm.show("new").holders[0].token))
        proxy.heal()
        ended = [("hold", owner, "released") for owner in "gp"]
        follower.wait_for(("gap", None, None), *ended, ("hold", "n", None))
        stays.release()
        follower.wait_for(("hold", "s", "released"))


def test_it_can_be_compacted_again_and_again_while_it_begins(
    start_etcd: Callable[..., Cluster], realm_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_etcd() as cluster:
        realm = connect(cluster.endpoints, realm_prefix)
        for _ in range(4):
            with realm.lock("db", "a"):
                pass
        last = realm.lock("db", "b").acquire()
        compact(cluster, last.token - 6)
        true_locks, left = pages.Pages.locks, [last.token - 4, last.token - 2]

        def locks(self: pages.Pages, revision: int, *arguments: Any, **options: Any) -> Any:
            if left:
                compact(cluster, left.pop(0))
            return true_locks(self, revision, *arguments, **options)

        monkeypatch.setattr(pages.Pages, "locks", locks)
        reach, *entries = everything(realm)
        assert reach.revision == last.token - 2
        assert [(entry.owner, entry.ended is None) for entry in entries][-1] == ("b", True)


# Long histories.


def test_a_long_history_is_read_in_parts(
    start_etcd: Callable[..., Cluster], realm_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_etcd() as cluster:
        scene = Scene(cluster, realm_prefix)
        at = int(time.time()) - 100_000
        for number in range(1200):
            token = scene.put("db", f'{at + 2 * number};n{number};{{"run":"r{number}"}}')
            note = f'{at + 2 * number + 1};n{number};{{"how":"released","token":{token}}}'
            end(scene, "db", note)
        monkeypatch.setattr(pages, "PAGE", 7)
        realm = scene.realm()
        found = told(realm.history())
        assert [hold.owner for hold in found] == [f"n{number}" for number in range(1200)]
        assert all(hold.ended.how == "released" for hold in found)
        monkeypatch.setattr(start, "SHORT", 100)
        monkeypatch.setattr(start, "CLOSE", 10)
        reach, *few = everything(realm, since=at + 2 * 1100)
        assert reach.because == "asked"
        assert reach.revision > 2000
        assert [hold.owner for hold in few] == [f"n{number}" for number in range(1100, 1200)]
        scene.close()


# Trouble.


def test_a_user_without_rights_gets_the_right_that_is_missing(
    user_of_realm: Callable[[str], dict[str, Any]], etcd_cell: Callable[[str, str], Cluster]
) -> None:
    access = user_of_realm("secret")
    with connect(**access).lock("db", "a"):
        pass
    assert len(told(connect(**access).history())) == 1
    with pytest.raises(AccessDenied, match="may not read"):
        list(connect(**{**access, "prefix": "/elsewhere/"}).history())


def test_without_an_etcd_it_says_so() -> None:
    with pytest.raises(EtcdUnavailable):
        list(connect("http://127.0.0.1:1", connect_timeout=1).history())


def test_behind_a_proxy_that_lets_no_watch_open_it_says_so(etcd: Cluster, proxy: Proxy, realm_prefix: str) -> None:
    with connect(etcd.endpoints, realm_prefix).lock("db", "a"):
        pass
    proxy.hold_reply(WATCH)
    with pytest.raises(EtcdUnavailable, match="lets no watch open, which a history takes"):
        list(connect([proxy.url], realm_prefix, connect_timeout=1).history())


@pytest.mark.parametrize("after", [0, 7, 100])
def test_a_connection_that_breaks_in_the_middle_loses_and_repeats_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    for number in range(10):
        with scene.realm().lock("db", f"n{number}"):
            pass
    true_take, cuts = reading.HistoryReader._take, [after, after]

    def take(self: Any, events: Any) -> None:
        revisions = sorted({event.kv.mod_revision for event in events})
        if cuts and revisions:
            last = revisions[min(cuts.pop(), len(revisions) - 1)]
            true_take(self, [event for event in events if event.kv.mod_revision <= last])
            raise WatchEnded("the stream ended")
        true_take(self, events)

    monkeypatch.setattr(reading.HistoryReader, "_take", take)
    found = told(scene.realm().history())
    assert [hold.owner for hold in found] == [f"n{number}" for number in range(10)]


def test_it_ends_where_the_first_read_found_the_present(scene: Scene) -> None:
    """Locks are acquired faster than it is read: it ends all the same."""
    stop = threading.Event()

    def cycle() -> None:
        realm = scene.realm()
        while not stop.is_set():
            with realm.lock("busy", "x"):
                pass

    thread = threading.Thread(target=cycle)
    thread.start()
    try:
        with scene.realm().lock("db", "a"):
            pass
        assert [hold.owner for hold in told(scene.realm().history("db"))] == ["a"]
    finally:
        stop.set()
        thread.join(BOUND)


def test_a_delete_that_the_watch_missed_is_told_as_a_gap(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As servers before 3.5.18 can miss one."""
    realm = scene.realm()
    realm.lock("db", "a").acquire()
    realm.unlock("db", "a")
    true_take = reading.HistoryReader._take
    key = scene.key("db")

    def take(self: Any, events: Any) -> None:
        true_take(self, [event for event in events if not (event.deleted and event.kv.key == key)])

    monkeypatch.setattr(reading.HistoryReader, "_take", take)
    kinds = [(entry.kind, entry.ended and entry.ended.how) for entry in realm.history()]
    assert kinds == [("reach", None), ("gap", None), ("hold", "released")]


# Following.


def test_following_goes_on_over_a_members_restart(
    start_etcd: Callable[..., Cluster], realm_prefix: str, follow: Callable[[History], Follower]
) -> None:
    with start_etcd() as cluster:
        realm = connect(cluster.endpoints, realm_prefix)
        with realm.lock("db", "past"):
            pass
        follower = follow(connect(cluster.endpoints, realm_prefix, connect_timeout=2).history(follow=True))
        follower.wait_for(("hold", "past", "released"))
        (member,) = cluster.members
        lock = realm.lock("db", "a").acquire()
        follower.wait_for(("hold", "a", None))
        member.kill()
        member.start()
        until(lambda: _answers(realm))
        lock.release()
        follower.wait_for(("hold", "a", None), ("hold", "a", "released"))


def _answers(realm: Realm) -> bool:
    try:
        realm.show("db")
    except EtcdUnavailable:
        return False
    return True


def test_following_tells_each_at_its_beginning_and_its_end(scene: Scene, follow: Callable[[History], Follower]) -> None:
    realm = scene.realm()
    follower = follow(scene.realm().history("db", follow=True))
    until(lambda: follower.entries)
    first = realm.lock("db", "a").acquire()
    waiting = scene.queue(realm.lock("db", "b"))
    follower.wait_for(("hold", "a", None), ("wait", "b", None))
    first.release()
    second = waiting.result(BOUND)
    follower.wait_for(("hold", "a", "released"), ("hold", "b", None))
    second.release()
    follower.wait_for(("hold", "b", "released"))


def test_what_was_missed_while_following_is_found_by_a_later_read(
    scene: Scene, follow: Callable[[History], Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "REREAD", 0.5)
    monkeypatch.setattr(reading, "RECHECK", 0.5)
    realm = scene.realm()
    lock = realm.lock("db", "a").acquire()
    true_take, key = reading.HistoryReader._take, scene.key("db")

    def take(self: Any, events: Any) -> None:
        true_take(self, [event for event in events if not (event.deleted and event.kv.key == key)])

    monkeypatch.setattr(reading.HistoryReader, "_take", take)
    follower = follow(scene.realm().history(follow=True))
    follower.wait_for(("hold", "a", None))
    lock.release()
    follower.wait_for(("gap", None, None), ("hold", "a", "released"))
