"""A lock belongs to the process that took it: what a forked child finds, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd

# Errors and output of the child go to stdout; the parent waits for it, and releases.
_FORKED = """
import os, sys, time, threading
from distlock_core import LockManager, NotHolder, connect
endpoint, prefix, transport, ttl = sys.argv[1:]
realm = connect(endpoint, prefix, transport=transport)
ttl = int(ttl) or None

def fork(work, with_exit=False):
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)
    try:
        work()
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    if with_exit:
        sys.exit(7)  # through every `with` around it, and the interpreter's end
    os._exit(0)

def raises(what):
    try:
        what()
    except NotHolder as error:
        assert str(os.getppid()) in str(error) and "process that took it" in str(error), error
        return
    raise AssertionError(f"{what} did not raise")
"""


def forked(etcd: Cluster, prefix: str, code: str, transport: str = "http", ttl: int = 0) -> str:
    argv = [sys.executable, "-c", _FORKED + code, etcd.endpoints[0], prefix, transport, str(ttl)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("transport", ["http", "grpc"])
@pytest.mark.parametrize("ttl", [0, 6])
def test_a_child_that_leaves_the_block_leaves_the_lock(
    etcd: Cluster, realm_prefix: str, in_etcd: Etcd, transport: str, ttl: int
) -> None:
    code = """
with realm.lock("x", ttl=ttl) as lock:
    token = lock.token
    assert fork(lambda: None, with_exit=True) == 7
    assert lock.held and lock.verify() and lock.token == token
    if ttl:
        before = lock.session.deadline
        lock.acquire()  # renewed over what the child has not closed
        assert lock.session.deadline > before and not lock.lost.is_set()
assert realm.show("x").holders == ()
print("done")
"""
    assert forked(etcd, realm_prefix, code, transport, ttl) == "done\n"
    in_etcd.assert_nothing_left()


@pytest.mark.parametrize("ttl", [0, 6])
def test_in_a_child_nothing_is_held_and_use_raises(etcd: Cluster, realm_prefix: str, in_etcd: Etcd, ttl: int) -> None:
    code = """
import asyncio
from distlock_core.aio import AsyncRealm
from distlock_core.keeper.handover import hand_over
from distlock_core.lock.lock import hold_of
lock = realm.lock("x", ttl=ttl, value="v").acquire()
event = lock.lost  # asked for before the fork

def child():
    assert not lock.held
    assert event.is_set() and lock.lost.is_set()
    for use in (lock.release, lock.verify, lock.update, lambda: lock.keep("why"), lambda: lock.cool(5),
                lambda: lock.token,
                lambda: lock.session, lambda: lock.value, lambda: lock.holder, lock.ownership,
                lambda: hand_over(lock)):
        raises(use)
    raises(lambda: hold_of(lock))  # what is the parent's is not given up
    print("child", flush=True)

assert fork(child) == 0
assert lock.held and lock.verify() and not event.is_set()
# The child takes others', and this one too once it is free, over connections of its own.
def another():
    with realm.lock("y", ttl=ttl) as own:
        assert own.verify() and own.held
    assert realm.lock("x").try_acquire() is None
    print("another", flush=True)
assert fork(another) == 0
assert lock.verify()
lock.release()
print("done")
"""
    assert forked(etcd, realm_prefix, code, ttl=ttl) == "child\nanother\ndone\n"
    in_etcd.assert_nothing_left()


def test_a_daemon_acquires_again_and_its_hold_is_monitored(etcd: Cluster, realm_prefix: str, in_etcd: Etcd) -> None:
    code = """
lock = realm.lock("x", ttl=3).acquire()

def daemon():
    assert lock.lost.is_set()
    lock.acquire()  # when what the parent held has ended
    assert lock.held and not lock.lost.is_set()
    end = time.monotonic() + 4.5
    while time.monotonic() < end:  # longer than the ttl
        assert lock.held
        time.sleep(0.1)
    assert lock.verify()
    lock.release()
    print("daemon", flush=True)

pid = os.fork()
if pid:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))  # the parent does nothing meanwhile but renew
daemon()
"""
    code = code.replace("os._exit(os.wait", "lock.session.stop() or os._exit(os.wait")  # as if it had ended
    assert forked(etcd, realm_prefix, code) == "daemon\n"
    in_etcd.assert_nothing_left()


def test_a_child_that_waits_is_not_woken_with_its_parent_nor_the_parent_with_it(
    etcd: Cluster, realm_prefix: str, in_etcd: Etcd
) -> None:
    code = """
from distlock_core.base.deadline import Interrupt, Patience, now
interrupt = Interrupt()

def child():
    assert interrupt.fileno() >= 0
    interrupt.set()
    assert interrupt.is_set()
    Patience(now() + 5).wait(interrupt.fileno())

assert fork(child) == 0
assert not interrupt.is_set()
before = time.thread_time()
Patience(now() + 0.5, interrupt).wait()
assert time.thread_time() - before < 0.2, "it spins"
print("done")
"""
    assert forked(etcd, realm_prefix, code) == "done\n"
    in_etcd.assert_nothing_left()


def test_a_child_of_a_callback_leaves_the_parents_place_and_hold(
    etcd: Cluster, realm_prefix: str, in_etcd: Etcd
) -> None:
    """A fork in `progress` or in a listener ends in the child alone, whatever it raises there."""
    code = """
holder = realm.lock("x").acquire()
pids = []

def progress(waiting):
    if not pids:
        pid = os.fork()
        if pid == 0:
            sys.exit(7)
        pids.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        assert realm.show("x").waiting == 1, "the place in line is gone"
        holder.release()

lock = connect(endpoint, prefix).lock("x").acquire(progress=progress)
assert pids == [7] and lock.verify()
lock.release()

def listener(notice):
    if os.fork() == 0:
        sys.exit()

manager = LockManager(realm, "m", ttl=5, listener=listener)
while not manager.have_lock():
    time.sleep(0.02)
def child():
    assert not manager.have_lock()
    raises(manager.update)
    raises(lambda: manager.add_listener(print))
    manager.shutdown()
assert fork(child) == 0
assert manager.have_lock()
manager.shutdown()
while True:
    try:
        os.waitpid(-1, 0)  # the listeners' children have ended: they did not go on in its place
    except ChildProcessError:
        break
print("done")
"""
    assert forked(etcd, realm_prefix, code) == "done\n"
    in_etcd.assert_nothing_left()
