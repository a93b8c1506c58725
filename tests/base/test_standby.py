"""StandbyThread: started before its work, it ends with its owner, even without `close()`."""

from __future__ import annotations

import gc
import threading
from typing import Callable

import pytest

from distlock_core import connect
from distlock_core.base import standby_thread as standby_module
from distlock_core.base.deadline import Interrupt
from distlock_core.base.standby_thread import StandbyThread
from distlock_core.testing import Cluster
from tests.support.processes import wait_until

NAME = "distlock-of-this-test"


def running() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


class Counted(Interrupt):
    closed = 0

    def close(self) -> None:
        Counted.closed += 1
        super().close()


@pytest.mark.parametrize("works", [0, 1, 3])
def test_a_dropped_thread_ends_and_leaves_no_descriptor(works: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby_module, "Interrupt", Counted)
    before = Counted.closed
    standby = StandbyThread(NAME)
    done: list[int] = []
    for number in range(works):
        standby.hand(lambda _, number=number: done.append(number))  # type: ignore[misc]
    wait_until(lambda: len(done) == works, "the end of its work")
    assert running() == 1
    del standby
    gc.collect()
    wait_until(lambda: running() == 0, "the end of the thread")
    assert done == list(range(works))
    wait_until(lambda: Counted.closed == before + 1, "its descriptors to be closed")


def test_a_thread_dropped_at_work_ends_afterwards() -> None:
    at_work, go_on = threading.Event(), threading.Event()

    def work(_: Interrupt) -> None:
        at_work.set()
        go_on.wait(30)

    standby = StandbyThread(NAME)
    standby.hand(work)
    assert at_work.wait(30)
    del standby
    gc.collect()
    assert running() == 1
    go_on.set()
    wait_until(lambda: running() == 0, "the end of the thread")


def test_a_thread_dropped_right_after_its_call_does_its_work() -> None:
    for _ in range(200):
        done = threading.Event()
        standby = StandbyThread(NAME)
        standby.hand(lambda _, done=done: done.set())  # type: ignore[misc]
        del standby
        assert done.wait(30)
    wait_until(lambda: running() == 0, "the end of the threads")


def test_a_lost_lock_that_is_dropped_leaves_no_thread(
    etcd: Cluster, realm_prefix: str, need: Callable[..., str]
) -> None:
    before = set(threading.enumerate())
    lock = connect(etcd.endpoints[0], realm_prefix).lock("x", ttl=10).acquire()
    started = [thread for thread in set(threading.enumerate()) - before if thread.name == "distlock-session"]
    assert started
    etcd.etcdctl("del", lock.key)
    assert lock.lost.wait(30)
    del lock

    def ended() -> bool:
        gc.collect()  # once is too early, while the thread is still telling of the loss
        return not any(thread.is_alive() for thread in started)

    wait_until(ended, "the end of the thread")
