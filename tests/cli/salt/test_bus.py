"""Events of Salt's states and functions: where a minion runs, in Salt's forms, and never in the way of a lock."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import Realm
from distlock_core.adapters import acquire, release
from distlock_core.adapters.settings import read_settings
from distlock_core.cli.salt import bus as events
from distlock_core.cli.salt.bus import Bus
from distlock_core.testing import Cluster
from tests.support.processes import wait_until
from tests.support.scene import BOUND, Scene


class Loop:
    """Salt's `event.fire`, which keeps what it is given."""

    def __init__(self, folder: Path, minions: list[socket.socket], **opts: Any) -> None:
        self.folder, self.minions = folder, minions
        self.fired: list[tuple[Mapping[str, Any], str]] = []
        self.opts = {"sock_dir": str(folder), **opts}
        self.bus = Bus({"event.fire": self.fire}, self.opts)

    def fire(self, data: Mapping[str, Any], tag: str) -> None:
        self.fired.append((data, tag))

    def run_minion(self) -> socket.socket:
        minion = socket.socket(socket.AF_UNIX)
        minion.bind(str(self.folder / "minion_event_0123456789_pull.ipc"))
        minion.listen()
        self.minions.append(minion)
        return minion


@pytest.fixture
def new_loop() -> Iterator[Callable[..., Loop]]:
    minions: list[socket.socket] = []
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket is short
        yield lambda **opts: Loop(Path(folder), minions, **opts)
    for minion in minions:
        minion.close()


@pytest.fixture
def loop(new_loop: Callable[..., Loop]) -> Loop:
    return new_loop()


def test_a_minion_passes_events_on_to_its_master(loop: Loop) -> None:
    loop.run_minion()
    loop.bus.tell("lost", "db", {"owner": "salt:m0"})
    ((data, tag),) = loop.fired
    assert tag == "fire_master"
    assert data == {
        "data": {"owner": "salt:m0", "event": "lost", "lock": "db"},
        "tag": "distlock/lock/db/lost",
        "events": None,
        "pretag": None,
    }


def test_without_a_running_minion_nothing_is_sent(loop: Loop) -> None:
    (loop.folder / "master_event_pull.ipc").touch()
    loop.bus.tell("lost", "db", {})
    assert loop.fired == []
    loop.run_minion().close()  # it leaves its socket behind
    loop.bus.tell("lost", "db", {})
    assert loop.fired == []
    Bus({"event.fire": loop.fire}, {"sock_dir": "/nowhere"}).tell("lost", "db", {})
    assert loop.fired == []


@pytest.mark.parametrize("opts", [{"local": True}, {"file_client": "local"}, {"master_type": "disable"}])
def test_a_minion_without_a_master_has_the_event_on_its_own_bus(
    new_loop: Callable[..., Loop], opts: dict[str, Any]
) -> None:
    loop = new_loop(**opts)
    loop.run_minion()
    loop.bus.tell("frozen", None, {"by": "alice"})
    assert loop.fired == [({"by": "alice", "event": "frozen", "lock": None}, "distlock/realm/frozen")]


def test_a_call_says_once_that_it_waits_and_then_what_it_did(loop: Loop, scene: Scene, etcd: Cluster) -> None:
    loop.run_minion()
    realm: Realm = scene.realm()
    arguments = {"endpoints": list(etcd.endpoints), "prefix": scene.prefix, "lockname": "db", "timeout": 20}
    settings = read_settings(arguments, "salt:m0")
    before = realm.lock("db", "node-1").acquire()

    def take() -> None:
        taken = acquire.take(settings, progress=loop.bus.waiter(settings.id))
        loop.bus.acquired(taken.holders)

    thread = threading.Thread(target=take)
    thread.start()
    wait_until(lambda: loop.fired, "the call waits")
    before.release()
    thread.join(BOUND)
    loop.bus.ended(release.release(settings), settings.id)
    told = [(data["tag"], data["data"]) for data, _ in loop.fired]
    assert [tag for tag, _ in told] == [f"distlock/lock/db/{event}" for event in ("waiting", "acquired", "released")]
    waiting, acquired, released = (data for _, data in told)
    assert waiting == {"event": "waiting", "lock": "db", "owner": "salt:m0", "position": 1, "holders": ["node-1"]}
    assert (acquired["owner"], released["token"]) == ("salt:m0", acquired["token"])
    assert released["ended"] == {"how": "released", "by": "salt:m0"}


def test_what_another_ends_is_lost_unless_it_was_kept(loop: Loop, scene: Scene) -> None:
    loop.run_minion()
    realm: Realm = scene.realm()
    realm.lock("db", "node-1").acquire()
    realm.lock("kept", "node-1").acquire().keep("failed")
    holders = [*realm.show("db").holders, *realm.show("kept").holders]
    loop.bus.ended(holders, "salt:m0", why="node-1 is down")
    loop.bus.ended(holders[:1], "node-1", cools=True)
    told = [(data["tag"], data["data"]["ended"]) for data, _ in loop.fired]
    broken = {"how": "broken", "by": "salt:m0", "why": "node-1 is down"}
    assert told == [
        ("distlock/lock/db/lost", broken),
        ("distlock/lock/kept/released", broken),
        ("distlock/lock/db/released", {"how": "cooled", "by": "node-1"}),
    ]


@pytest.mark.parametrize("error", [OSError, RuntimeError, MemoryError])
def test_a_bus_that_fails_or_hangs_fails_and_delays_nothing(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[Exception]
) -> None:
    loop.run_minion()
    monkeypatch.setattr(events, "BOUND", 0.05)

    def fail(_: object, tag: str) -> None:
        raise error(tag)

    Bus({"event.fire": fail}, loop.opts).tell("lost", "db", {})
    Bus({}, loop.opts).tell("lost", "db", {})  # `event` is a disabled module
    Bus({}, {}).tell("lost", "db", {})
    ends = threading.Event()
    started = time.monotonic()
    Bus({"event.fire": lambda *_: ends.wait(BOUND)}, loop.opts).tell("lost", "db", {})
    assert time.monotonic() - started < BOUND / 2
    ends.set()
    assert tuple(capsys.readouterr()) == ("", "")


def test_everything_can_be_packed() -> None:
    msgpack = pytest.importorskip("msgpack")
    odd = {"a": ["\ud800", 10**30, -(10**30), float("nan"), None, True, (1,)], "\udcff": {"b": 2**63}}
    packed = events.packable(odd)
    assert msgpack.packb(packed)
    assert packed["a"][1:3] == [str(10**30), str(-(10**30))]
