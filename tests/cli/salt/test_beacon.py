"""Salt's beacon, called as by the minion's loop: it sends what happens, waits for nothing and leaves nothing behind."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from distlock_core.cli.salt import beacon, watcher
from distlock_core.events.watch import Watching
from distlock_core.testing import Proxy
from tests.support.doc_blocks import recipe
from tests.support.paths import ROOT
from tests.support.processes import present, wait_until
from tests.support.scene import Scene

Event = dict[str, Any]


class Minion:
    """What Salt does with a beacon: it calls it again and again, and may load its file anew."""

    def __init__(self, scene: Scene, endpoints: list[str] | None = None) -> None:
        self.section: dict[str, Any] = {"endpoints": endpoints or list(scene.cluster.endpoints), "prefix": scene.prefix}
        self.opts: dict[str, Any] = {"id": "m0", "distlock": self.section, "pillar": {}, "beacons": {}}
        self.seen: list[Event] = []

    def get(self, path: str, default: object = None, **_: object) -> object:
        found: Any = self.opts
        for word in path.split(":"):
            found = found.get(word, {}) if isinstance(found, dict) else {}
        return found or default

    def call(self, *config: Event) -> list[Event]:
        assert beacon.mistake_in(list(config)) == ""
        return beacon.poll([*config, {"_beacon_name": "distlock"}], {"config.get": self.get}, self.opts)

    def begin(self, *config: Event) -> None:
        assert self.call(*config) == []
        found = running()
        assert found is not None
        wait_until(lambda: found.has_begun, "the beacon has begun")

    def until(self, *expected: tuple[str, str | None], config: tuple[Event, ...] = ()) -> list[Event]:
        """Call it until there are as many events, which must be these: event and lock."""
        self.seen = []

        def look() -> bool:
            self.seen += self.call(*config)
            return len(self.seen) >= len(expected)

        wait_until(look, f"{expected}, not {self.seen}")
        assert [(event["event"], event.get("lock")) for event in self.seen] == list(expected)
        return self.seen


def running() -> watcher.RealmWatcher | None:
    return beacon.watcher_of("distlock")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "distlock-beacon"]


def close() -> None:
    beacon.close([{"_beacon_name": "distlock"}])


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close()
    assert threads() == []


def test_it_sends_what_happens_from_its_first_call_on_and_nothing_that_was_before(scene: Scene) -> None:
    before = scene.realm().lock("old", "node-1").acquire()
    minion = Minion(scene)
    minion.begin()
    with scene.realm().lock("db", "node-2", "Upgrade"):
        pass
    before.release()
    acquired, released, old = minion.until(("acquired", "db"), ("released", "db"), ("released", "old"))
    assert (acquired["tag"], released["tag"], old["tag"]) == (
        "lock/db/acquired",
        "lock/db/released",
        "lock/old/released",
    )
    assert (acquired["owner"], acquired["reason"], acquired["state"]) == ("node-2", "Upgrade", "held")
    assert None not in acquired.values()
    assert (released["token"], released["ended"]["how"], released["ended"]["by"]) == (
        acquired["token"],
        "released",
        "node-2",
    )


def test_each_end_is_told_from_the_others(scene: Scene) -> None:
    realm, minion = scene.realm(), Minion(scene)
    minion.begin()

    def acquired(name: str, **words: Any) -> Any:
        lock = realm.lock(name, "node-1", **words).acquire()
        minion.until(("acquired", name))
        return lock

    lock = acquired("expired", ttl=10, background=False)
    scene.revoke(lock.lease)
    assert "ended" not in minion.until(("lost", "expired"))[0]
    lock = acquired("broken")
    realm.break_hold(realm.show("broken").holders[0], "node-1 is down", "alice")
    (lost,) = minion.until(("lost", "broken"))
    assert (lost["ended"]["how"], lost["ended"]["by"], lost["ended"]["why"]) == ("broken", "alice", "node-1 is down")
    acquired("deleted")
    scene.delete("deleted")
    minion.until(("lost", "deleted"))
    lock = acquired("kept")
    lock.keep("the upgrade failed")
    (kept,) = minion.until(("kept", "kept"))
    assert (kept["state"], kept["reason"]) == ("kept", "the upgrade failed")
    realm.unlock("kept", "alice", force=True)  # a person who has looked
    minion.until(("released", "kept"))
    lock = acquired("cooled")
    lock.cool(60)
    minion.until(("released", "cooled"))
    (holder,) = realm.show("cooled").holders
    scene.revoke(holder.lease)  # its end is no news
    scene.put("go", "1795263499;node-1;plain text of the Go original")
    minion.until(("acquired", "go"))
    scene.delete("go")
    minion.until(("released", "go"))  # which writes no note when it releases
    scene.put("rebooted", '1795263499;node-1;{"run": "before"}')
    scene.put("rebooted", '1795263599;node-1;{"run": "after", "taken_over": true}')
    minion.until(("acquired", "rebooted"), ("released", "rebooted"), ("acquired", "rebooted"))
    realm.freeze("kept", reason="audit", owner="alice")
    realm.freeze(owner="alice")
    realm.thaw()
    frozen, whole, _ = minion.until(("frozen", "kept"), ("frozen", None), ("thawed", None))
    assert (frozen["tag"], frozen["by"], frozen["reason"]) == ("lock/kept/frozen", "alice", "audit")
    assert (whole["tag"], whole["scope"]) == ("realm/frozen", "realm")


def test_quick_holds_are_each_released_and_none_is_lost(scene: Scene) -> None:
    """Each release has its own note, although the lock has only the last one by the time that it is read."""
    minion = Minion(scene)
    minion.begin()
    for _ in range(5):
        with scene.realm().lock("db", "node-1"):
            pass
    events = minion.until(*[("acquired", "db"), ("released", "db")] * 5)
    assert [event["ended"]["token"] for event in events[1::2]] == [event["token"] for event in events[::2]]


def test_locks_and_events_are_selected(scene: Scene) -> None:
    minion = Minion(scene)
    config = ({"locks": ["es-*", "db"]}, {"events": ["released", "frozen"]})
    minion.begin(*config)
    for name in ("es-1", "web", "db"):
        with scene.realm().lock(name):
            pass
    scene.realm().freeze("web")
    scene.realm().freeze("db")
    minion.until(("released", "es-1"), ("released", "db"), ("frozen", "db"), config=config)


def test_nothing_is_missed_while_etcd_is_away_and_no_call_waits(
    scene: Scene, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.cut()
    minion = Minion(scene, [proxy.url])
    minion.section["connect_timeout"] = 0.3
    started = time.monotonic()
    minion.call()
    assert time.monotonic() - started < 0.2
    wait_until(lambda: "the beacon waits: no etcd answered" in caplog.text, "a word in the log")
    proxy.heal()
    wait_until(lambda: present(running()).has_begun, "the beacon has begun")
    with scene.realm().lock("db"):
        pass
    minion.until(("acquired", "db"), ("released", "db"))
    proxy.cut()
    with scene.realm().lock("db"):
        pass
    started = time.monotonic()
    assert minion.call() == []
    assert time.monotonic() - started < 0.2
    proxy.heal()
    minion.until(("acquired", "db"), ("released", "db"))
    assert caplog.text.count("the beacon waits") == 1


def test_closing_and_reloading_leave_no_thread_and_no_descriptor(scene: Scene) -> None:
    minion = Minion(scene)
    minion.begin()
    close()
    count = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        minion.begin()
        assert minion.call() == []
        assert len(threads()) == 1
        minion.opts["distlock"] = {**minion.section, "connect_timeout": 3 + time.monotonic()}  # a pillar refresh
        minion.begin()
        assert len(threads()) == 1
        close()
        assert threads() == []
    assert len(os.listdir("/proc/self/fd")) <= count


def test_a_beacon_that_nobody_calls_any_more_ends_by_itself(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacon, "LEAST_IDLE", 0.1)
    monkeypatch.setattr("distlock_core.events.follow.REREAD", 0.1)
    minion = Minion(scene)
    minion.opts["beacons"] = {"distlock": [{"interval": 0.01}]}
    minion.call()
    wait_until(lambda: threads() == [], "the end of the thread")
    monkeypatch.setattr(beacon, "LEAST_IDLE", 300.0)
    minion.begin()  # called again, it begins again


def test_a_forked_job_neither_uses_nor_ends_it(scene: Scene) -> None:
    minion = Minion(scene)
    minion.begin()
    found = present(running())
    with found._guard:  # the thread is at work in the moment of the fork, and so for ever in the child
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            is_alive = found.is_alive
            close()
            os._exit(1 if is_alive else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with scene.realm().lock("db"):
        pass
    minion.until(("acquired", "db"), ("released", "db"))


def test_events_that_nobody_takes_are_bounded(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watcher, "MOST", 4)
    minion = Minion(scene)
    minion.begin()
    found = running()
    assert found is not None
    for number in range(4):
        with scene.realm().lock(f"db-{number}"):
            pass
    wait_until(lambda: found.waiting + found.dropped == 8, "all events")
    minion.until(("acquired", "db-2"), ("released", "db-2"), ("acquired", "db-3"), ("released", "db-3"))
    assert "4 events of locks were dropped" in caplog.text


@pytest.mark.parametrize("error", [OSError, RuntimeError, MemoryError])
def test_whatever_is_raised_the_beacon_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setattr(watcher, "FIRST_RETRY", 0.01)
    failing = [error("odd")] * 2
    poll = Watching.poll

    def odd(self: Any, interrupt: Any) -> Any:
        if failing:
            raise failing.pop()
        return poll(self, interrupt)

    monkeypatch.setattr(Watching, "poll", odd)
    minion = Minion(scene)
    minion.begin()
    with scene.realm().lock("db"):
        pass
    minion.until(("acquired", "db"), ("released", "db"))


def test_records_of_other_programs_can_be_packed(scene: Scene) -> None:
    msgpack = pytest.importorskip("msgpack")
    minion = Minion(scene)
    minion.begin()
    scene.put("odd", '1;me;{"reason": "half \\ud800", "value": 1' + "0" * 30 + ', "pid": 99999999999999999999999}')
    (event,) = minion.until(("acquired", "odd"))
    assert msgpack.packb(event)
    # Salt ends a tag at an empty line: the rest of this name would be the beginning of the data.
    scene.put("two\n\nlines", "1;me;{}")
    (event,) = minion.until(("acquired", "two\n\nlines"))
    assert event["tag"] == r"lock/two\n\nlines/acquired"


def test_wrong_settings_are_logged_and_not_tried_at_every_call(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    minion = Minion(scene)
    minion.opts["distlock"] = {"endpoint": "http://127.0.0.1:1"}
    for _ in range(3):
        assert minion.call() == []
    (line,) = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert line == (
        "distlock: the beacon distlock does not start: distlock: in minion config or pillar: unknown key 'endpoint'; "
        "did you mean endpoints?"
    )
    minion.opts["distlock"] = minion.section
    minion.begin()


def test_settings_that_cannot_be_read_are_logged_and_salt_goes_on(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    minion = Minion(scene)
    assert minion.call({"profile": ["staging"]}) == []

    def sealed(*_: object, **__: object) -> object:
        raise OSError("the vault is sealed")

    close()
    assert beacon.poll([{"_beacon_name": "distlock"}], {"config.get": sealed}, minion.opts) == []
    wrong, failed = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert "profile \"['staging']\": not in distlock:profiles of minion config or pillar; known: none" in wrong
    assert failed == "distlock: the beacon distlock does not start: OSError: the vault is sealed"


@pytest.mark.parametrize(
    ("config", "mistake"),
    [
        ({"locks": ["x"]}, "expected a list of `- KEY: VALUE`, found {'locks': ['x']}"),
        (["x"], "expected a list of `- KEY: VALUE`, found ['x']"),
        ([{"lock": ["x"]}], "unknown key 'lock'; did you mean locks?"),
        ([{"zzz": 1}], "unknown key 'zzz'; known keys: locks, events, endpoints, prefix, profile, connect_timeout"),
        ([{"locks": "x"}], "locks: expected a list of names, found 'x'"),
        ([{"locks": [""]}], "locks: expected a list of names, found ['']"),
        ([{"locks": []}], "locks: the list is empty: leave it out for all locks"),
        ([{"events": []}], "events: the list is empty: leave it out for all events"),
        ([{"events": None}], "events: expected a list of names, found None"),
        (
            [{"events": ["loss"]}],
            f"events: there is no event 'loss'; did you mean lost?; known: {', '.join(beacon.EVENTS)}",
        ),
        ([{"locks": ["a*"]}, {"events": ["lost"]}, {"profile": "p"}, {"interval": 5}, {"enabled": True}], ""),
        ([], ""),
    ],
)
def test_mistakes_are_named(config: Any, mistake: str) -> None:
    assert beacon.mistake_in(config) == mistake


def test_the_recipes_are_right() -> None:
    (config,) = yaml.safe_load(recipe("Salt beacon"))["beacons"].values()
    assert beacon.mistake_in(config) == ""
    (reaction,) = yaml.safe_load(recipe("Salt reactor"))["reactor"]  # the master of tests/salt_modules has it
    assert reaction == {"salt/beacon/*/distlock/lock/*/lost": ["salt://reactor/freeze_lost_lock.sls"]}
    example = (ROOT / "examples/salt/reactor/freeze_lost_lock.sls").read_text(encoding="utf-8")
    assert recipe("Salt reactor state") in example
