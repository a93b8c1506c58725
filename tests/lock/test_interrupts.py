"""Ctrl-C in Python, at any point of an acquire or a release, is raised, and no lock stays behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd


@pytest.fixture
def in_etcd(oldest_etcd: Cluster, realm_prefix: str) -> Etcd:
    """Of an etcd that survives clients which hang up in the middle of a read, as 3.5.1 does not."""
    return Etcd(oldest_etcd, realm_prefix)


# Sends SIGINT to itself at the n-th line (or call, or return) that distlock runs in a stage, for every n of a stride,
# until a stage ends without it. Every interrupt must be raised, and leave nothing in etcd.
_SWEEP = """
import os, signal, sys
from distlock_core import connect
from distlock_core.etcd.values import Get
from distlock_core.base.deadline import Patience
endpoint, prefix, stage, ttl, first, stride = sys.argv[1:]
first, stride, ttl = int(first), int(stride), int(ttl) or None
realm, look = connect(endpoint, prefix), connect(endpoint, prefix)
count = target = 0
home = os.path.dirname(sys.modules["distlock_core"].__file__)

def trace(frame, event, argument):
    global count
    if not frame.f_code.co_filename.startswith(home) or frame.f_code.co_flags & 0x20:
        return None  # what is raised while a generator is closed, Python itself throws away
    if event == "return":
        return trace  # no signal is looked for there
    count += 1
    if count == target:
        where.append((frame.f_code.co_name, event, frame.f_lineno))
        os.kill(os.getpid(), signal.SIGINT)
    return trace

def one(number):
    global count, target
    count, target = 0, number
    where.clear()
    lock = realm.lock("x", ttl=ttl)
    if stage == "exit":
        lock.__enter__()
        try:
            sys.settrace(trace)
            lock.__exit__(None, None, None)
        finally:
            sys.settrace(None)
    elif stage == "release":
        lock.acquire()
        try:
            sys.settrace(trace)
            lock.release()
        finally:
            sys.settrace(None)
    else:
        try:
            sys.settrace(trace)
            lock.__enter__()
        finally:
            sys.settrace(None)
        lock.release()

where = []
one(0)  # what is loaded at the first time is loaded
number, tried, left = first, 0, []
while True:
    try:
        one(number)
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    if not where:
        break
    tried += 1
    assert interrupted, ("swallowed", number, where)
    if look.show("x").holders or look.show("x").waiting:
        left.append((number, list(where)))
        look.unlock("x")
    number += stride
print(tried, left)
"""


@pytest.mark.parametrize("ttl", [0, 30])
@pytest.mark.parametrize("stage", ["exit", "release", "enter"])
def test_an_interrupt_at_any_line_leaves_no_lock(
    oldest_etcd: Cluster, realm_prefix: str, in_etcd: Etcd, stage: str, ttl: int
) -> None:
    # The first events are the call itself and the lines that begin what holds interrupts back: see the next test.
    first = {"exit": 3, "release": 7, "enter": 1}[stage]
    stride = 31 if ttl else 11
    argv = [
        sys.executable,
        "-c",
        _SWEEP,
        oldest_etcd.endpoints[0],
        realm_prefix,
        stage,
        str(ttl),
        str(first),
        str(stride),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    tried, _, left = done.stdout.partition(" ")
    assert left == "[]\n"
    assert int(tried) > 20
    in_etcd.assert_nothing_left()


def test_an_interrupt_before_the_first_line_of_a_blocks_end_leaves_nothing_when_the_program_ends(
    oldest_etcd: Cluster, realm_prefix: str, in_etcd: Etcd
) -> None:
    code = """
import sys
from distlock_core import connect
from distlock_core.lock.lock import Lock
realm = connect(sys.argv[1], sys.argv[2])

def trace(frame, event, argument):
    if frame.f_code is Lock.__exit__.__code__:
        raise KeyboardInterrupt
    return None

try:
    with realm.lock("x"):
        sys.settrace(trace)
except KeyboardInterrupt:
    print(len(realm.show("x").holders))
"""
    argv = [sys.executable, "-c", code, oldest_etcd.endpoints[0], realm_prefix]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    in_etcd.assert_nothing_left()


def test_a_second_interrupt_gives_up_on_an_etcd_that_is_away(
    oldest_etcd: Cluster, realm_prefix: str, in_etcd: Etcd
) -> None:
    code = """
import os, signal, sys, threading, time
from distlock_core import connect
from distlock_core.testing import Proxy
proxy = Proxy(sys.argv[1])
lock = connect(proxy.url, sys.argv[2], release_timeout=60).lock("x").acquire()
proxy.cut()

def interrupt():
    for _ in range(2):
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
started = time.monotonic()
try:
    lock.release()
except KeyboardInterrupt:
    assert 1.5 < time.monotonic() - started < 15
    assert lock.held and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    proxy.heal()
    lock.release()
    print("done")
"""
    argv = [sys.executable, "-c", code, oldest_etcd.endpoints[0], realm_prefix]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout == "done\n", done.stderr
    in_etcd.assert_nothing_left()


def test_a_handler_that_does_not_raise_runs_at_once(oldest_etcd: Cluster, realm_prefix: str, in_etcd: Etcd) -> None:
    """A program's signal handlers run during a release; one that raises SystemExit ends the program after it."""
    code = """
import os, signal, sys
from distlock_core import connect
from distlock_core.base.uninterrupted import Uninterrupted
from distlock_core.lock.lock import hold_of
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append("usr1"))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
lock = connect(sys.argv[1], sys.argv[2]).lock("x").acquire()
hold = hold_of(lock)
real = hold.release

def release(patience):
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert seen == ["usr1"]
    real(patience)

hold.release = release
lock.release()
"""
    argv = [sys.executable, "-c", code, oldest_etcd.endpoints[0], realm_prefix]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (7, "")
    in_etcd.assert_nothing_left()
