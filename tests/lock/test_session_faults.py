"""Unexpected errors while a hold is monitored: it continues, or the hold is lost and the loss reported."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from distlock_core import Lock, connect
from distlock_core.base.deadline import Interrupt, Patience, now
from distlock_core.etcd.http import gateway, http1, reply, sender, watch
from distlock_core.lock.lease import Lease
from distlock_core.lock.lock import hold_of
from distlock_core.lock.session import Session
from distlock_core.model.record import Record
from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.processes import BOUND, wait_until

TTL = 4
ERRORS = (OSError, RuntimeError, MemoryError, ValueError)
CALLED = (
    *(Session, Lease, Patience, gateway.Gateway, sender.Sender, watch.GatewayWatch),
    *(http1.Connection, reply.Inbox, reply.Reply, Record),
)
# The net itself: these catch, and do nothing else that could fail.
NET = {"Session.run", "Session._outlast", "Session._lose", "Session._tell", "Session.__init__"}


# Some of what it surely calls.
PARTS = {
    *("Session._keep", "Session._look", "Session._watch", "Session._judge", "session.now", "Patience.wait"),
    *("Lease.renew", "Gateway.keep_alive", "Sender.send", "GatewayWatch.wait"),
}


class Faults:
    """Every function that the loop calls can be made to raise, in one thread, once or always."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.called: dict[int, set[str]] = {}
        self._armed: dict[int, tuple[str, type[Exception], bool]] = {}
        for kind in CALLED:
            for name, found in list(vars(kind).items()):
                where = f"{kind.__name__}.{name}"
                if where in NET or (name.startswith("__") and name != "__init__"):
                    continue
                if isinstance(found, property):
                    monkeypatch.setattr(kind, name, property(self._wrap(where, found.fget), found.fset))
                elif isinstance(found, classmethod):
                    monkeypatch.setattr(kind, name, classmethod(self._wrap(where, found.__func__)))
                elif callable(found) and hasattr(found, "__code__"):
                    monkeypatch.setattr(kind, name, self._wrap(where, found))
        for module in ("session", "lease", "loss_reasons"):
            for name in ("now", "clock", "owner_of"):
                where = f"distlock_core.lock.{module}.{name}"
                try:
                    found = functools.reduce(getattr, where.split(".")[1:], __import__(f"distlock_core.lock.{module}"))
                except AttributeError:
                    continue
                monkeypatch.setattr(where, self._wrap(f"{module}.{name}", found))

    def arm(self, where: str, error: type[Exception], always: bool) -> None:
        """From now on, in this thread."""
        self._armed[threading.get_ident()] = (where, error, always)

    def disarm(self) -> None:
        self._armed.pop(threading.get_ident(), None)

    def _wrap(self, where: str, real: Any) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            thread = threading.get_ident()
            if thread in self.called:
                self.called[thread].add(where)
            armed = self._armed.get(thread)
            if armed is not None and armed[0] == where:
                if not armed[2]:
                    self.disarm()
                raise armed[1]("provoked")
            return real(*arguments, **named)

        return call


class Cared:
    """A lock whose hold is monitored in a thread of the test."""

    def __init__(self, lock: Lock, faults: Faults, fault: tuple[str, type[Exception], bool] | None) -> None:
        self.lock, self.fault = lock, fault
        self.told: list[object] = []
        self.lost = lock.session.lost
        lock.session.on_lost = self.told.append
        self._stop = Interrupt()
        self._faults = faults
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        thread = threading.get_ident()
        if self.fault is None:
            self._faults.called[thread] = set()
        else:
            self._faults.arm(*self.fault)
        self.lock.session.run(self._stop)
        if self.fault is None:
            self.seen = self._faults.called.pop(thread)
        self._faults.disarm()  # the next thread may get the same number

    @property
    def so_far(self) -> set[str]:
        """The functions called so far."""
        return set().union(*self._faults.called.values())

    @property
    def is_told(self) -> bool:
        """A loss is reported in every way, and only then the monitoring ends."""
        return self.lost.is_set() and len(self.told) == 1 and not self.lock.held

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        self._stop.close()


@pytest.fixture
def locks(oldest_etcd: Cluster, realm_prefix: str) -> Iterator[Callable[[], Lock]]:
    """Locks of an etcd that survives clients which hang up in the middle of a read, as 3.5.1 does not."""
    numbers = itertools.count()
    with connect(oldest_etcd.endpoints, realm_prefix) as realm:
        yield lambda: realm.lock(f"x{next(numbers)}", ttl=TTL, background=False).acquire()


def test_whatever_the_loop_raises_the_hold_continues_or_is_lost_by_its_deadline(
    locks: Callable[[], Lock], oldest_etcd: Cluster, realm_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(monkeypatch)
    # The functions that the loop calls, over a renewal and a change of the key that makes it read.
    plain = Cared(locks(), faults, None)
    deadline = plain.lock.session.deadline
    oldest_etcd.etcdctl("put", f"{realm_prefix}{plain.lock.name}", plain.lock.holder.stored.decode(), "--ignore-lease")
    wait_until(lambda: plain.lock.session.deadline > deadline and plain.so_far >= PARTS, "a renewal, and a read")
    plain.end()
    errors = itertools.cycle(ERRORS)
    cared = [
        Cared(locks(), faults, (where, next(errors), always))
        for where in sorted(plain.seen)
        for always in (False, True)
    ]
    # The four kinds are caught alike: all of them where a renewal and a wait are.
    cared += [
        Cared(locks(), faults, (where, error, True))
        for where in ("Lease.renew_if_due", "GatewayWatch.wait", "Patience.wait", "Session._look")
        for error in ERRORS
    ]
    latest = max(each.lock.session.deadline for each in cared)

    def is_resolved(each: Cared) -> bool:
        if each.is_told:
            return True
        return each.lock.session.deadline > latest and each.lock.held and each.lock.verify()

    try:
        open_questions = [each.fault for each in cared if not _comes(lambda each=each: is_resolved(each))]  # type: ignore[misc]
        assert open_questions == []
        once_and_lost = [each.fault for each in cared if each.fault and not each.fault[2] and each.is_told]
        # Who cannot look at the clock cannot hold anything until then; everything else is ridden out.
        assert {fault[0] for fault in once_and_lost} <= {"Session._judge", "session.now", "Session._last_moment"}
        assert sum(each.is_told for each in cared) > len(cared) / 5  # what raises for ever, for the most part
    finally:
        for each in cared:
            each.end()


def _comes(condition: Callable[[], bool]) -> bool:
    try:
        wait_until(condition, "", TTL + BOUND)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("way", ["on_lost", "on_change"])
def test_an_exception_in_a_callback_neither_ends_nor_hides_anything(
    etcd: Cluster, realm_prefix: str, in_etcd: Etcd, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("mine")

    with connect(etcd.endpoints, realm_prefix) as realm:
        lock = realm.lock("x", ttl=60, on_lost=fail if way == "on_lost" else None).acquire()
        if way == "on_change":
            lock.session.on_change = fail
        in_etcd.unlock("x")
        assert lock.session.lost.wait(BOUND)
        wait_until(lambda: reported, "the report")
        assert reported[0].exc_type is ZeroDivisionError
        assert not lock.held
        hold_of(lock).give_up()


# Run in a separate process, since its faults affect the whole process.
_APART = """
import os, resource, socket, sys, threading, time
from distlock_core import connect
from distlock_core.base.deadline import now
from distlock_core.lock.lock import hold_of
endpoint, prefix, what = sys.argv[1:]
realm = connect(endpoint, prefix)

def without_descriptors(seconds):
    files = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            files.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    time.sleep(seconds)
    for file in files:
        os.close(file)

def wait(condition, seconds=30):
    end = now() + seconds
    while not condition():
        assert now() < end, "it did not come"
        time.sleep(0.02)
"""


def apart(etcd: Cluster, prefix: str, code: str, what: str = "") -> str:

    done = subprocess.run(
        [sys.executable, "-c", _APART + code, etcd.endpoints[0], prefix, what],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_descriptors_for_longer_than_the_ttl_is_a_reported_loss_or_none(
    etcd: Cluster, realm_prefix: str, in_etcd: Etcd
) -> None:
    code = """
told = []
lock = realm.lock("x", ttl=3, on_lost=told.append).acquire()
realm.close()  # an idle connection would do without another descriptor
without_descriptors(5)
if lock.held:
    assert lock.verify() and not told and not lock.lost.is_set()
    lock.release()
else:
    assert len(told) == 1 and lock.lost.is_set(), (told, lock.lost)
    hold_of(lock).give_up()
# For shorter it is ridden out, and the thread is the same.
lock = realm.lock("y", ttl=9, refresh=0.5, on_lost=told.append).acquire()
before = lock.session.deadline
without_descriptors(2)
wait(lambda: lock.session.deadline > before + 2.5)
assert lock.held, lock.session.loss
assert lock.verify()
lock.release()
print("all told")
"""
    assert apart(etcd, realm_prefix, code) == "all told\n"
    in_etcd.assert_nothing_left()


def test_a_manager_continues_after_a_shortage_of_descriptors(etcd: Cluster, realm_prefix: str, in_etcd: Etcd) -> None:
    code = """
from distlock_core import LockManager
manager = LockManager(realm, "x", ttl=3)
wait(manager.have_lock)
realm.close()
without_descriptors(5)
wait(manager.have_lock)
assert manager.trouble is None
manager.shutdown()
print("stands")
"""
    assert apart(etcd, realm_prefix, code) == "stands\n"
    in_etcd.assert_nothing_left()


def test_nothing_is_loaded_opened_or_started_for_the_first_time_once_it_is_held(
    etcd: Cluster, realm_prefix: str, in_etcd: Etcd
) -> None:
    code = """
from distlock_core.testing import Proxy
from distlock_core.errors import LockLost
proxy = Proxy(endpoint)
realm = connect(proxy.url, prefix)
lock = realm.lock("x", ttl=4, refresh=0.5, on_lost=lambda loss: None).acquire()
lost = lock.lost
seen, mine = [], set()
watched = {"import", "open", "_thread.start_new_thread", "os.fork", "os.posix_spawn", "subprocess.Popen"}

def note(event, arguments):
    name = threading.current_thread().name if threading.get_ident() in threading._active else "?"
    if event in watched and armed and (name.startswith("distlock-") or name == "MainThread"):
        seen.append((event, arguments[0] if arguments else ""))

import distlock_core.lock.listing, distlock_core.lock.unlock  # what another program uses, here
armed = True
sys.addaudithook(note)
wait(lambda: lock.session.deadline - now() > 3.9)  # a renewal
proxy.cut()
wait(lambda: lock.session.doubt)
proxy.heal()
wait(lambda: not lock.session.doubt)
lock.ttl = 5
if what == "release":
    lock.release()
else:
    from_elsewhere = connect(endpoint, prefix)
    from_elsewhere.unlock("x")
    assert lost.wait(20)
    try:
        lock.release()
    except LockLost:
        pass
armed = False
print([each for each in seen if "/proc/self" not in str(each)])
"""
    for what in ("release", "lose"):
        assert apart(etcd, realm_prefix, code, what) == "[]\n"
    in_etcd.assert_nothing_left()


def test_where_no_thread_can_be_started_nothing_is_taken(etcd: Cluster, realm_prefix: str, in_etcd: Etcd) -> None:
    code = """
import _thread
from distlock_core import DistlockError
def refuse(*_, **__):
    raise RuntimeError("can't start new thread")
threading._start_new_thread = threading._start_joinable_thread = _thread.start_new_thread = refuse
try:
    realm.lock("x", ttl=5).acquire(timeout=0)
except DistlockError as error:
    print(error)
"""
    assert "no thread can be started" in apart(etcd, realm_prefix, code)
    in_etcd.assert_nothing_left()


def test_a_hold_is_monitored_renewed_and_released_without_a_new_thread(
    etcd: Cluster, realm_prefix: str, in_etcd: Etcd
) -> None:
    code = """
import _thread
lock = realm.lock("x", ttl=5).acquire()
def refuse(*_, **__):
    raise RuntimeError("can't start new thread")
threading._start_new_thread = threading._start_joinable_thread = _thread.start_new_thread = refuse
lock.ttl = 7
lock.acquire()  # on another lease, looked after by the same thread
assert lock.session.is_running and lock.session.lease.ttl == 7
before = lock.session.deadline
wait(lambda: lock.session.deadline > before)
lock.release()
print("let go")
"""
    assert apart(etcd, realm_prefix, code) == "let go\n"
    in_etcd.assert_nothing_left()


def test_a_stopped_program_does_not_report_an_expired_lock_as_held(etcd: Cluster, realm_prefix: str) -> None:
    with connect(etcd.endpoints, realm_prefix) as realm:
        lock = realm.lock("x", ttl=3, background=False).acquire()  # nobody renews it
        wait_until(lambda: now() > lock.session.deadline, "the deadline")
        assert not lock.held
        hold_of(lock).give_up()
