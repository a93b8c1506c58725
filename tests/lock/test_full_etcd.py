"""A full etcd refuses new locks; held ones can be released and broken, and claims in doubt are void."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core import OutcomeUnknown, Realm, connect
from distlock_core.base.deadline import Interrupt, Patience
from distlock_core.errors import Cancelled, DistlockError, EtcdUnavailable, NoSpace
from distlock_core.etcd.transport import dial
from distlock_core.etcd.values import Delete, Get, Put
from distlock_core.lock.lock import hold_of
from distlock_core.model.record import KEPT
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_servers import ENDS, WHEEL
from tests.support.etcd_view import Etcd
from tests.support.processes import BOUND, one_line, wait_until
from tests.support.scene import TXN, Scene, gateway, puts

Run = Callable[..., Any]
PREFIX = "/full/"


class Full:
    """A separate etcd, whose alarm NOSPACE is set and cleared, or which is really full."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.env: dict[str, str | None] = {"DISTLOCK_ENDPOINTS": cluster.endpoints[0], "DISTLOCK_PREFIX": PREFIX}

    @property
    def keys(self) -> list[str]:
        found = Etcd(self.cluster, PREFIX).keys()
        return [key for key in found if not key.startswith("__last/")]

    def fill(self, size: int = 50_000) -> None:
        etcd = dial(self.cluster.endpoints)
        with contextlib.suppress(NoSpace):
            for number in range(200):
                etcd.txn([], [Put(b"/fill/%d" % number, b"x" * size)], [], Patience.lasting(BOUND))
            pytest.fail("it takes whatever comes")
        etcd.close()

    def alarm(self) -> None:
        self._ask({"action": "ACTIVATE", "alarm": "NOSPACE"})

    def disarm(self) -> None:
        self.cluster.etcdctl("alarm", "disarm")

    def _ask(self, message: dict[str, str]) -> None:
        url = self.cluster.endpoints[0] + "/v3/maintenance/alarm"
        with urllib.request.urlopen(url, json.dumps(message).encode(), timeout=BOUND) as reply:
            assert json.loads(reply.read())["alarms"]


@pytest.fixture(scope="module", params=ENDS)
def alarmed(request: pytest.FixtureRequest, start_etcd: Callable[..., Cluster]) -> Iterator[Full]:
    with start_etcd(version=request.param) as cluster:
        yield Full(cluster)


@pytest.fixture
def full(alarmed: Full) -> Iterator[Full]:
    """It has room now; `alarm()` ends that."""
    yield alarmed
    alarmed.disarm()
    alarmed.cluster.etcdctl("del", "--prefix", PREFIX)


@pytest.fixture
def realm(full: Full) -> Iterator[Realm]:
    with connect(full.cluster.endpoints, PREFIX, release_timeout=3.0) as realm:
        yield realm


@pytest.mark.parametrize("version", ENDS)
def test_a_lock_in_a_full_etcd_can_be_released_and_broken(
    start_etcd: Callable[..., Cluster], run_distlock: Run, version: str
) -> None:
    with start_etcd(version=version, extra_args=["--quota-backend-bytes=100000"]) as cluster:
        full = Full(cluster)
        realm = connect(cluster.endpoints, PREFIX)
        held = [realm.lock("persistent").acquire(), realm.lock("leased", ttl=30).acquire()]
        for name in ("step", "broken"):
            assert run_distlock(f"--lock-name={name}", "--lock", "--id=me", env=full.env).returncode == 0
        full.fill(90_000)
        for lock in held:
            lock.release()
        done = run_distlock("--lock-name=step", "--unlock", "--id=me", env=full.env)
        assert (done.returncode, done.stderr) == (0, "")
        done = run_distlock("--lock-name=broken", "--unlock", "--force", "--id=another", env=full.env)
        assert done.returncode == 0, done.stderr
        assert full.keys == []
        done = run_distlock("--lock-name=persistent", "--nowait", "--", "true", env=full.env)
        assert done.returncode == 1
        assert "alarm NOSPACE" in one_line(done.stderr)
        realm.close()


def takes_deletes(etcd: Any) -> bool:
    try:
        etcd.txn([], [Delete(b"/fill/0")], [], Patience.lasting(BOUND))
    except NoSpace:
        return False
    return True


def test_beyond_its_quota_3_5_1_releases_leased_locks_and_the_rest_is_named(
    start_etcd: Callable[..., Cluster],
) -> None:
    """It lets no transaction in then, be it of deletes alone; but a lease can be revoked."""
    with start_etcd(version=WHEEL, extra_args=["--quota-backend-bytes=1000000"]) as cluster:
        full = Full(cluster)
        realm = connect(cluster.endpoints, PREFIX, release_timeout=1.5)
        leased, persistent = realm.lock("leased", ttl=30).acquire(), realm.lock("persistent").acquire()
        full.fill(100_000)
        etcd = dial(cluster.endpoints)
        wait_until(lambda: not takes_deletes(etcd), "a database whose last writes count")  # every 0.1 s
        leased.release()
        with pytest.raises(NoSpace, match="etcdctl alarm list"):
            persistent.release()
        assert full.keys == ["persistent"]
        assert persistent.held
        # When there is room again it goes on where it was.
        cluster.etcdctl("del", "--prefix", "/fill/")
        cluster.etcdctl("compact", str(etcd.read([Get(b"x")], Patience.lasting(BOUND)).revision))
        cluster.etcdctl("defrag")
        cluster.etcdctl("alarm", "disarm")
        persistent.release()
        assert full.keys == []
        realm.close()
        etcd.close()


def test_a_waiter_and_a_run_end_cleanly_when_etcd_has_become_full(
    full: Full, realm: Realm, run_distlock: Run, spawn_distlock: Callable[..., Any], tmp_path: Any
) -> None:
    go = tmp_path / "go"
    run = spawn_distlock("--lock-name=run", "--", "sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done", env=full.env)
    wait_until(lambda: full.keys == ["run"], "the run")
    interrupt = Interrupt()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            realm.lock("run", ttl=5).acquire(cancel=interrupt)
        except Cancelled as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    wait_until(lambda: realm.show("run").waiting == 1, "a waiter")
    bound = spawn_distlock("--lock-name=kept", "--", "sleep", "1000", env=full.env)
    wait_until(lambda: "kept" in full.keys, "another")
    keeper = run_distlock("--lock-name=bound", "--lock", f"--while-pid={bound.pid}", env=full.env)
    assert keeper.returncode == 0, keeper.stderr
    full.alarm()
    interrupt.set()
    waiter.join(BOUND)
    assert errors
    go.touch()
    assert run.wait(BOUND) == 0
    bound.terminate()
    bound.wait(BOUND)
    wait_until(lambda: full.keys == [], "the end of the keeper's lock")


@pytest.mark.parametrize("demanded", ["lease", "ticket", "last end"])
def test_a_claim_in_doubt_in_a_full_etcd_can_never_be_applied(full: Full, realm: Realm, demanded: str) -> None:
    """It is on its way while the alarm is on, and arrives when there is room again."""
    scene = Scene(full.cluster, PREFIX)
    if demanded == "last end":
        realm.lock("x").acquire().release()
    outcome, body = _claim_held_up(full, scene, ttl=30 if demanded == "lease" else None, waiter=demanded == "ticket")
    assert isinstance(outcome, DistlockError)
    assert not isinstance(outcome, OutcomeUnknown)
    full.disarm()
    with contextlib.suppress(urllib.error.HTTPError):  # its lease is not there any more
        assert not scene.replay(body)
    assert full.keys == []


def test_the_first_claim_ever_in_doubt_in_a_full_etcd_is_reported_as_unknown(full: Full) -> None:
    """Nothing that could be deleted would make it void."""
    scene = Scene(full.cluster, PREFIX)
    outcome, body = _claim_held_up(full, scene, ttl=None, waiter=False)
    assert isinstance(outcome, OutcomeUnknown)
    assert "NOSPACE" in outcome.message
    full.disarm()
    assert scene.replay(body)
    assert scene.record("x").run == outcome.run


def _claim_held_up(full: Full, scene: Scene, ttl: int | None, waiter: bool) -> tuple[BaseException | None, bytes]:
    """The alarm is set while a claim is on its way. Returns how the call ended, and the claim."""
    with Proxy(full.cluster.endpoints[0]) as proxy, connect(proxy.url, PREFIX) as realm:
        outcome: list[BaseException | None] = []

        def acquire() -> None:
            try:
                realm.lock("x", ttl=ttl, background=False).acquire(timeout=3.0)
                outcome.append(None)
            except DistlockError as error:
                outcome.append(error)

        caller = threading.Thread(target=acquire)
        if waiter:
            scene.put("x")
            caller.start()
            wait_until(lambda: realm.show("x").waiting == 1, "a place in line")
        held = proxy.hold_request(TXN, puts(scene.key("x")))
        if waiter:
            scene.delete("x")
        else:
            caller.start()
        held.wait()
        full.alarm()
        caller.join(BOUND)
        return outcome[0], held.body


class CrossesTheLimit:
    """etcd, when the write that goes beyond its limit comes: it is applied, and refused all the same."""

    def __init__(self, etcd: Any, times: int = 1) -> None:
        self._etcd = etcd
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._etcd, name)

    def txn(self, compares: Any, then: Any, otherwise: Any, patience: Any) -> Any:
        outcome = self._etcd.txn(compares, then, otherwise, patience)
        if self._times and any(isinstance(op, Put) for op in then):
            self._times -= 1
            raise NoSpace("full")
        return outcome


@pytest.mark.parametrize("ttl", [None, 20])
def test_a_write_that_was_applied_but_refused_is_resolved(scene: Scene, ttl: int | None) -> None:
    etcd = CrossesTheLimit(gateway(*scene.endpoints))
    lock = Realm(etcd, scene.prefix).lock("web", ttl=ttl, background=False).acquire(0)
    assert lock.verify()
    etcd._times = 1
    lock.release()
    scene.assert_clean()


def test_a_leased_lock_that_cannot_be_left_taken_yet_is_kept_alive_until_it_can(full: Full, realm: Realm) -> None:
    lock = connect(full.cluster.endpoints, PREFIX, release_timeout=60).lock("x", ttl=3).acquire()
    full.alarm()
    kept = threading.Thread(target=lock.keep, args=("look at it",))
    kept.start()
    ends = time.monotonic() + 5
    while time.monotonic() < ends:  # for longer than the ttl
        assert full.keys == ["x"]
        time.sleep(0.2)
    full.disarm()
    kept.join(BOUND)
    assert not kept.is_alive()
    holder = realm.show("x").holders[0]
    assert (holder.record.state, holder.lease, holder.reason) == (KEPT, 0, "look at it")


@pytest.mark.parametrize("ending", [lambda lock: lock.keep("why"), lambda lock: lock.cool(60)], ids=["keep", "cool"])
def test_a_leased_lock_that_cannot_be_kept_is_not_released(full: Full, realm: Realm, ending: Any) -> None:
    lock = realm.lock("x", ttl=5).acquire()
    full.alarm()
    with pytest.raises(NoSpace):
        ending(lock)
    assert full.keys == ["x"]
    wait_until(lambda: full.keys == [], "the end of its lease", BOUND)


class FullUntilTimeIsUp:
    """etcd, full when the first write comes; the next write is cut short by the end of the caller's patience."""

    def __init__(self, etcd: Any) -> None:
        self._etcd = etcd
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._etcd, name)

    def txn(self, compares: Any, then: Any, otherwise: Any, patience: Any) -> Any:
        if not any(isinstance(op, Put) for op in then):
            return self._etcd.txn(compares, then, otherwise, patience)
        self.writes += 1
        if self.writes == 1:
            raise NoSpace("full")
        patience.wait()
        raise EtcdUnavailable("no etcd answered within 0.0s")


def test_a_full_etcd_is_named_even_if_the_last_try_had_no_time_left(scene: Scene) -> None:
    etcd = gateway(*scene.endpoints)
    lock = Realm(etcd, scene.prefix, release_timeout=0.5).lock("web", background=False).acquire(0)
    hold_of(lock)._etcd = full = FullUntilTimeIsUp(etcd)
    with pytest.raises(NoSpace, match="full"):
        lock.keep("why")
    assert full.writes > 1


@pytest.mark.parametrize(
    ("on_failure", "trouble"),
    [("keep", "could not be left taken"), ("freeze", "could not be frozen, and may still be locked")],
)
def test_a_failed_command_whose_lock_cannot_be_kept_reports_it_and_lets_its_lease_expire(
    full: Full, run_distlock: Run, on_failure: str, trouble: str
) -> None:
    options = ["--lock-name=x", "--ttl=6", "--release-timeout=1", f"--on-failure={on_failure}"]
    message = json.dumps({"action": "ACTIVATE", "alarm": "NOSPACE"})
    code = (
        "import sys,urllib.request as u;"
        f"u.urlopen({full.cluster.endpoints[0]!r}+'/v3/maintenance/alarm',{message!r}.encode()).read();sys.exit(7)"
    )
    done = run_distlock(*options, "--", sys.executable, "-c", code, env=full.env)
    assert done.returncode == 7
    assert f"x {trouble}: etcd's database is full" in one_line(done.stderr)
    assert "Its lease ends it within 6s" in done.stderr
    assert full.keys == ["x"]
