"""etcd behind nginx, as people have it: buffered watches, an upstream that fails by turns, limits on requests."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NoReturn

import pytest

from distlock_core import EtcdUnavailable, OutcomeUnknown
from distlock_core.base import warn_once
from distlock_core.base.deadline import Interrupt, Patience
from distlock_core.errors import AcquireTimeout, Cancelled
from distlock_core.etcd.endpoints import seconds_to_wait
from distlock_core.etcd.http import polling
from distlock_core.etcd.http.polling import PolledWatch
from distlock_core.etcd.values import Compacted, Get, Put, WatchEnded
from distlock_core.testing import Proxy
from tests.support.nginx import Nginx
from tests.support.processes import Process
from tests.support.scene import BOUND, Scene, gateway, until
from tests.support.scripted_server import Script, reply, says

Start = Callable[..., Nginx]


@pytest.fixture
def nginx(need: Callable[..., str], etcd: Any, tmp_path: Path) -> Iterator[Start]:
    """nginx(http="", location="", before=()) -> nginx before `etcd` and the further upstreams, taken in turns."""
    binary = need("nginx")
    started: list[Nginx] = []

    def start(*, before: tuple[str, ...] = (), **lines: str) -> Nginx:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        upstreams = [*before, etcd.endpoints[0].partition("://")[2]]
        started.append(Nginx(binary, str(folder), upstreams, **lines))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings."""
    lines: list[str] = []
    monkeypatch.setattr(warn_once, "tell", lines.append)
    monkeypatch.setattr(warn_once, "_made", set())
    return lines


# A watch that does not open, since the proxy waits for a buffer to be full.


def test_a_waiter_behind_a_buffering_proxy_gets_its_turn_and_warns_once(
    scene: Scene, nginx: Start, told: list[str]
) -> None:
    realm = scene.realm(nginx().url)
    holder = scene.realm().lock("web", "holder").acquire(0)
    waiters = [scene.queue(realm.lock("web", f"node-{number}")) for number in range(2)]
    until(lambda: told)
    for waiter in waiters:
        assert not waiter.done()
        holder.release()
        since = time.monotonic()
        holder = waiter.result(BOUND)
        assert time.monotonic() - since < 8, "it was not looked for, but read again after 10 s"
    holder.release()
    scene.assert_clean()
    assert len(told) == 1
    assert "no watch opens at http://127.0.0.1:" in told[0]
    assert "proxy_buffering off" in told[0]


def test_who_waits_for_a_moment_only_calls_no_proxy_a_buffering_one(
    scene: Scene, proxy: Proxy, told: list[str]
) -> None:
    """A busy etcd may take as long to open a watch."""
    lock = scene.realm().lock("web", "holder").acquire(0)
    held = proxy.hold_reply("/v3/watch")
    with pytest.raises(AcquireTimeout):
        scene.realm(proxy.url).lock("web").acquire(0.8)
    held.release()
    lock.release()
    scene.assert_clean()
    assert told == []


def test_a_hold_behind_a_buffering_proxy_is_renewed_and_its_loss_noticed(
    scene: Scene, nginx: Start, told: list[str]
) -> None:
    lost: list[Any] = []
    lock = scene.realm(nginx().url).lock("web", ttl=6, on_lost=lost.append).acquire(BOUND)
    until(lambda: told)
    lease = lock.session.lease
    assert lease is not None
    until(lambda: lease.deadline - lease.renew_at > 0)
    born = time.monotonic()
    until(lambda: time.monotonic() - born > 7)  # longer than it would live unrenewed
    assert not lost
    assert lock.verify()
    since = time.monotonic()
    scene.delete("web")
    until(lambda: lost)
    assert time.monotonic() - since < 8
    lock.session.stop()


def test_a_watcher_behind_a_buffering_proxy_sees_all_lasting_changes(
    scene: Scene, nginx: Start, told: list[str]
) -> None:
    scene.put("a")
    watching = scene.realm(nginx().url).watch()
    source: Any = watching._source
    assert next(watching).lock == "a"
    found = scene.start(lambda: [next(watching) for _ in range(3)])
    until(lambda: told)
    scene.put("b")
    until(lambda: len(source.news) or len(source._told) == 2)
    scene.delete("a")
    until(lambda: len(source._told) == 1)
    scene.put("c")
    assert [(event.kind, event.lock) for event in found.result(BOUND)] == [
        ("acquired", "b"),
        ("released", "a"),
        ("acquired", "c"),
    ]
    watching.close()


def test_the_command_waits_and_reports_it_on_one_line(
    scene: Scene, nginx: Start, spawn_distlock: Callable[..., Process]
) -> None:
    scene.put("web")
    env = {"DISTLOCK_ENDPOINTS": nginx().url}
    command = spawn_distlock("--lock-name=web", "--", "echo", "in", env=env)
    assert command.stderr is not None
    assert command.stdout is not None
    lines = iter(command.stderr.readline, "")
    said = next(line for line in lines if "no watch opens" in line)
    assert said.startswith("distlock: warning: no watch opens at http://127.0.0.1:")
    scene.delete("web")
    assert command.stdout.readline() == "in\n"
    assert command.wait(BOUND) == 0
    assert not any("no watch opens" in line for line in lines)


def test_a_proxy_that_does_not_buffer_changes_nothing(scene: Scene, nginx: Start, told: list[str]) -> None:
    realm = scene.realm(nginx(location="proxy_buffering off; proxy_http_version 1.1;").url)
    holder = scene.realm().lock("web").acquire(0)
    waiter = scene.queue(realm.lock("web"))
    holder.release()
    waiter.result(BOUND).release()
    assert told == []
    scene.assert_clean()


def test_a_watch_is_retried_after_a_while(
    scene: Scene, nginx: Start, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "FIRST_SPELL", 0.5)
    etcd = gateway(nginx().url)
    watch = etcd.watch([(scene.key("web"), None)], scene.put("x") + 1, Patience.lasting(3))
    assert isinstance(watch, PolledWatch)
    with pytest.raises(WatchEnded):
        watch.wait(Patience.lasting(BOUND))
    etcd.close()


def polled(scene: Scene, revision: int, *ranges: tuple[bytes, bytes | None]) -> PolledWatch:
    watch = PolledWatch(gateway(*scene.endpoints), ranges, revision, float("inf"))
    watch.begin(Patience.lasting(BOUND))
    return watch


def reports_a_change(watch: PolledWatch, seconds: float = BOUND) -> bool:
    """Wait this long for a change: a polled watch ends with each, without saying which."""
    try:
        assert watch.wait(Patience.lasting(seconds)) == []
    except Compacted:
        return True
    return False


def test_every_kind_of_change_to_a_watched_key_is_seen(scene: Scene) -> None:
    ends = scene.key("q/"), scene.key("q0")
    changes: dict[str, Callable[[], Any]] = {
        "put": lambda: scene.put("q/a"),
        "put again": lambda: scene.put("q/a"),
        "another put": lambda: scene.put("q/b"),
        "the older deleted": lambda: scene.delete("q/a"),
        "deleted and made anew": lambda: scene.replace("q/b"),
        "replaced by another": lambda: scene.move("q/b", "q/c"),
        "the last deleted": lambda: scene.delete("q/c"),
    }
    watch = polled(scene, scene.put("before") + 1, ends, (scene.key("other"), None))
    for what, change in changes.items():
        assert not reports_a_change(watch, 0.05), what
        change()
        assert reports_a_change(watch), what
    scene.put("other")
    assert reports_a_change(watch)


def test_changes_since_the_revision_are_seen_at_once(scene: Scene) -> None:
    revision = scene.put("web")
    scene.delete("web")
    for begin in (revision + 1, 1):
        scene.put("again")
        keys = ((scene.key("web"), None), (scene.key("again"), None))
        assert reports_a_change(polled(scene, begin, *keys))
    later = polled(scene, scene.put("x") + 1, (scene.key("web"), None))
    assert not reports_a_change(later, 0.3)
    assert not reports_a_change(polled(scene, revision + 10_000_000, (scene.key("web"), None)), 0.3)


def test_a_polled_watch_that_begins_now_misses_nothing_after_it_is_open(scene: Scene, nginx: Start) -> None:
    etcd = gateway(nginx().url)
    scene.put("web")  # before it is open
    ranges = [(scene.key("web"), None), (scene.key("q/"), scene.key("q0"))]
    for change in (lambda: scene.put("q/a"), lambda: scene.delete("q/a"), lambda: scene.put("web")):
        before, watch = etcd.watch(ranges, 0, Patience.lasting(BOUND)), etcd.watch(ranges, 0, Patience.lasting(BOUND))
        assert isinstance(before, PolledWatch)
        assert isinstance(watch, PolledWatch)
        assert not reports_a_change(before, 0.3)
        change()
        assert reports_a_change(watch)
    etcd.close()


def test_looking_can_be_cancelled(scene: Scene) -> None:
    cancel, watch = Interrupt(), polled(scene, scene.put("x") + 1, (scene.key("web"), None))
    waiting = scene.start(lambda: watch.wait(Patience(float("inf"), cancel)))
    cancel.set()
    with pytest.raises(Cancelled):
        waiting.result(BOUND)


def test_a_look_cancelled_in_the_middle_does_not_end_the_watch(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = polled(scene, scene.put("x") + 1, (scene.key("web"), None))

    def called_off(*_: object) -> NoReturn:
        raise Cancelled("interrupted")

    monkeypatch.setattr(watch, "_look", called_off)
    with pytest.raises(Cancelled):
        watch.wait(Patience.lasting(BOUND))


# An upstream that fails by turns.


@pytest.fixture
def broken(script: Callable[..., Script]) -> str:
    """An upstream that closes the connection on every request: nginx answers 502 to a write."""
    return script(lambda client: client.close()).url.partition("://")[2]


def test_a_free_lock_is_acquired_though_every_second_request_fails(scene: Scene, nginx: Start, broken: str) -> None:
    """In strict rotation, each claim would go to the failing upstream, and each read to the other one."""
    realm = scene.realm(nginx(before=(broken,)).url)
    for number in range(5):
        since = time.monotonic()
        lock = realm.lock(f"web-{number}").acquire(BOUND)
        lock.release()
        assert time.monotonic() - since < BOUND
    scene.assert_clean()


def test_the_status_that_was_seen_is_named(scene: Scene, nginx: Start, broken: str) -> None:
    etcd = gateway(nginx(before=(broken,)).url)

    def write_again_and_again() -> None:
        for _ in range(20):
            etcd.txn([], [Put(scene.key("x"), b"")], [], Patience.lasting(BOUND))

    with pytest.raises(OutcomeUnknown, match="HTTP 502"):
        write_again_and_again()
    with pytest.raises(EtcdUnavailable, match=r"no time was left to ask etcd .*; the last failure was .*HTTP 502"):
        etcd.read([Get(b"x")], Patience.lasting(0))
    scene.clear()


# Limits on requests.

LIMIT = {
    "http": "limit_req_zone $server_name zone=one:1m rate=2r/s; limit_req_status 429;",
    "location": "limit_req zone=one burst=1 nodelay; proxy_buffering off;",
}


def test_a_rate_limit_is_not_prolonged_by_constant_retries(scene: Scene, nginx: Start) -> None:
    proxy = nginx(**LIMIT)
    realm = scene.realm(proxy.url, connect_timeout=BOUND)
    since = time.monotonic()
    lock = realm.lock("web").acquire(BOUND)
    lock.release()
    seconds = time.monotonic() - since
    refused = sum('" 429 ' in line for line in proxy.asked())
    assert refused <= 3 + seconds * 2
    scene.assert_clean()


def test_a_write_that_a_limit_refused_was_not_done_and_is_sent_again(script: Callable[..., Script]) -> None:
    server = script(says(reply("429 Too Many Requests", "slow down", "Retry-After: 30")))
    with pytest.raises(EtcdUnavailable, match=r"limit on requests refuses them \(HTTP 429\)"):
        gateway(server.url).txn([], [Put(b"x", b"")], [], Patience.lasting(0.5))


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_retry_after_is_respected_for_every_endpoint(script: Callable[..., Script], status: str) -> None:
    asked: list[float] = []

    def answer(client: socket.socket) -> None:
        asked.append(time.monotonic())
        client.sendall(reply(status, "later", "Retry-After: 2"))

    etcd = gateway(script(answer).url)
    for _ in range(3):  # not even by other calls
        with pytest.raises(EtcdUnavailable, match=status[:3]):
            etcd.read([], Patience.lasting(0.3))
    # With one look whether it speaks TLS there.
    assert len(asked) <= 2
    with pytest.raises(EtcdUnavailable):
        etcd.read([], Patience.lasting(3))
    assert asked[-1] - asked[0] >= 2


def test_another_endpoint_is_asked_meanwhile(scene: Scene, script: Callable[..., Script]) -> None:
    server = script(says(reply("429 Too Many Requests", "later", "Retry-After: 60")))
    etcd = gateway(server.url, *scene.endpoints)
    for _ in range(3):
        since = time.monotonic()
        etcd.read([Get(b"x")], Patience.lasting(BOUND))
        assert time.monotonic() - since < BOUND / 2


def test_retry_after_is_read_in_seconds_and_as_a_date() -> None:
    assert [seconds_to_wait(said) for said in ("7", " 7 ", "0", None, "", "-5", "soon", "1e9", "²")] == [7, 7, *[0] * 7]
    assert seconds_to_wait("9" * 5000) <= 1e9
    then = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 20 < seconds_to_wait(then) <= 30
    assert seconds_to_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0
