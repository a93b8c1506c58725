"""A connection that has fallen silent, its packets dropped without a word: others are tried beside it."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from distlock_core import EtcdUnavailable
from distlock_core.base.deadline import Interrupt, Patience, now
from distlock_core.errors import Cancelled
from distlock_core.lock.lease import Lease
from distlock_core.lock.renewal import _Tries
from distlock_core.testing import Proxy
from tests.support.contract_cell import Cell, patience, until

TTL = 12


def leased(cell: Cell) -> tuple[Proxy, Lease]:
    """A lease that was renewed over a connection through the proxy, which is still open."""
    proxy, url = cell.proxy()
    lease = Lease(cell.dial(url), TTL, patience())
    lease.renew(patience())
    return proxy, lease


def pipes() -> int:
    """Open ends of pipes: the proxy, in this process too, has sockets alone."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}").startswith("pipe:")
        except FileNotFoundError:
            pass
    return found


def threads() -> int:
    return sum(thread.name.startswith("distlock-") for thread in threading.enumerate())


def until_as_before(pipes_before: int, threads_before: int) -> None:
    until(lambda: threads() <= threads_before and pipes() <= pipes_before, 30)


def test_a_renewal_is_not_held_up_by_a_silent_connection(newer: Cell) -> None:
    proxy, lease = leased(newer)
    before = pipes(), threads()
    proxy.silence()
    since = now()
    lease.renew_at = since
    lease.renew_if_due(patience(TTL / 3))
    assert not lease.failing, "the renewal has waited for the silent connection alone"
    assert since + TTL <= lease.deadline < since + TTL + 0.5, "the deadline counts from the first try"
    lease.renew(patience(1.0))  # over the connection that works, from now on
    lease.revoke(patience())
    until_as_before(*before)


def test_a_renewal_is_answered_soon_after_packets_pass_again(driver: Cell) -> None:
    """Whatever TCP's pauses have grown to meanwhile: another try begins every fifth of a second with a ttl of 12 s."""
    proxy, lease = leased(driver)
    before = pipes(), threads()
    proxy.blackhole()
    healed: list[float] = []

    def heal() -> None:
        proxy.silence()  # what has begun in the cut is lost for good
        healed.append(now())
        proxy.blackholed = False

    timer = threading.Timer(2.5, heal)
    timer.start()
    since = now()
    lease.renew(patience(8.0))
    timer.join()
    assert now() - healed[0] < 2.0
    assert lease.deadline < since + TTL + 0.5, "nobody knows which of the tries was answered: the first one counts"
    lease.revoke(patience())
    until_as_before(*before)


def test_a_renewal_without_an_answer_ends_in_time_and_leaves_nothing_behind(driver: Cell) -> None:
    proxy, lease = leased(driver)
    before = pipes(), threads()
    proxy.blackhole()
    since = now()
    with pytest.raises(EtcdUnavailable, match="timed out"):
        lease.renew(patience(3.0))
    assert now() - since < 10
    interrupt = Interrupt()
    timer = threading.Timer(1.5, interrupt.set)
    timer.start()
    with pytest.raises(Cancelled):
        lease.renew(Patience.lasting(30, interrupt))
    assert now() - since < 25
    timer.join()
    interrupt.close()
    proxy.heal()
    until_as_before(*before)
    lease.renew(patience())
    lease.revoke(patience())


@pytest.mark.parametrize("missing", ["threads", "descriptors", "memory"])
def test_without_threads_or_descriptors_tries_follow_each_other(
    driver: Cell, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, lease = leased(driver)

    def refuse(*_: Any) -> Any:
        raise {"threads": RuntimeError, "descriptors": OSError, "memory": MemoryError}[missing]("none is left")

    what = "__init__" if missing == "descriptors" else "_begin"
    proxy.silence()
    with monkeypatch.context() as patched:
        patched.setattr(_Tries, what, refuse)
        lease.renew(patience(TTL / 3))
    lease.revoke(patience())


def test_whatever_a_renewal_raises_counts_as_no_answer(driver: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = Lease(driver.dial(), TTL, patience())
    for error in (OSError("no descriptor"), RuntimeError("can't start new thread"), MemoryError(), EtcdUnavailable("")):

        def refuse(*_: Any, error: Exception = error, **__: Any) -> int:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(lease._etcd, "keep_alive", refuse)
            lease.renew_at = now()
            lease.renew_if_due(patience(0.5))
        assert lease.failing
        assert not lease.gone
        assert lease.renew_at <= now() + 1.0
    lease.renew_at = now()
    lease.renew_if_due(patience())
    assert not lease.failing
    lease.revoke(patience())
