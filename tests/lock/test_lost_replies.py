"""A lost reply is unknown, not a failure: the write is resolved, made void, or reported as in doubt."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

import pytest

from distlock_core import AcquireTimeout, EtcdUnavailable, Interrupt, OutcomeUnknown, Realm
from distlock_core.errors import Cancelled
from distlock_core.etcd.http.gateway import Gateway
from distlock_core.testing import Proxy
from tests.support.scene import (
    BOUND,
    GRANT,
    PROMPT,
    REVOKE,
    TXN,
    WATCH,
    Scene,
    deletes,
    gateway,
    puts,
    puts_under,
    until,
)


@pytest.fixture(params=["reply", "request"])
def lose(request: pytest.FixtureRequest, proxy: Proxy) -> Callable[..., None]:
    """Lose the request, so that etcd never sees it; or its reply, when etcd has done it."""
    return proxy.lose_reply if request.param == "reply" else proxy.lose_request


@pytest.fixture(params=["Interrupt", "threading.Event"])
def cancel(request: pytest.FixtureRequest) -> Any:
    return Interrupt() if request.param == "Interrupt" else threading.Event()


# Lost, and etcd still there: it is as if nothing had been lost.


def test_a_lost_claim_is_resolved(scene: Scene, proxy: Proxy, lose: Callable[..., None]) -> None:
    lose(TXN, puts(scene.key("web")))
    lock = scene.realm(proxy.url).lock("web").acquire(0)
    kv = scene.get("web")
    assert kv is not None
    assert lock.token == kv.create_revision
    assert lock.verify()
    lock.release()
    scene.assert_clean()


def test_a_lost_claim_of_a_waiter_is_resolved(scene: Scene, proxy: Proxy, lose: Callable[..., None]) -> None:
    scene.put("web")
    waiter = scene.queue(scene.realm(proxy.url).lock("web"))
    lose(TXN, puts(scene.key("web")))
    scene.delete("web")
    lock = waiter.result(PROMPT)
    assert lock.verify()
    assert scene.line("web") == ()
    lock.release()
    scene.assert_clean()


@pytest.mark.parametrize("path", [GRANT, TXN, REVOKE])
def test_a_lost_queue_entry_leaves_one_ticket_and_one_lease(
    scene: Scene, proxy: Proxy, lose: Callable[..., None], path: str
) -> None:
    scene.put("web")
    lose(path, puts_under(scene.key("web/queue/")) if path == TXN else None)
    waiter = scene.queue(scene.realm(proxy.url).lock("web"))
    (ticket,) = scene.line("web")
    until(lambda: scene.new_leases() == {ticket.lease})
    scene.delete("web")
    waiter.result(PROMPT).release()
    scene.assert_clean()


def test_a_lost_release_is_resolved(scene: Scene, proxy: Proxy, lose: Callable[..., None]) -> None:
    lock = scene.realm(proxy.url).lock("web").acquire(0)
    lose(TXN, deletes(scene.key("web")))
    lock.release()
    scene.assert_clean()
    assert scene.record("__last/web").text("how") == "released"


def test_a_release_in_doubt_twice_is_resolved(scene: Scene, proxy: Proxy) -> None:
    """The first arrives only when the second is under way, and so it is the first that is applied."""
    lock = scene.realm(proxy.url).lock("web").acquire(0)
    first = proxy.hold_request(TXN, deletes(scene.key("web")))
    release = scene.start(lock.release)
    first.wait()
    second = proxy.hold_request(TXN, deletes(scene.key("web")))
    at = int(time.time())
    until(lambda: int(time.time()) > at)  # what is put down about the end has its second
    first.drop()
    second.wait()
    assert scene.replay(first.body)
    second.drop()
    release.result(BOUND)
    scene.assert_clean()


# Delayed on its way, and forwarded when its caller no longer waits: it must be void.


def test_a_claim_that_arrives_after_its_doubt_was_resolved_is_void(scene: Scene, proxy: Proxy) -> None:
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    claim = scene.acquire(scene.realm(proxy.url).lock("web"), 0)
    held.wait()
    held.drop()
    claim.result(PROMPT).release()
    scene.delete("__last/web")
    scene.realm().lock("web").acquire(0).release()
    before = scene.under()
    assert not scene.replay(held.body)
    assert scene.under() == before


def test_a_claim_that_arrives_after_the_caller_was_cancelled_is_void(scene: Scene, proxy: Proxy, cancel: Any) -> None:
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    claim = scene.acquire(scene.realm(proxy.url).lock("web"), -1, cancel=cancel)
    held.wait()
    cancel.set()
    with pytest.raises(Cancelled):
        claim.result(BOUND)
    assert not scene.replay(held.body)
    scene.assert_clean()


def test_a_claim_that_arrives_after_its_timeout_is_void(scene: Scene, proxy: Proxy) -> None:
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    claim = scene.acquire(scene.realm(proxy.url).lock("web"), 2.0)
    held.wait()
    with pytest.raises(AcquireTimeout):
        claim.result(BOUND)
    assert not scene.replay(held.body)
    scene.assert_clean()


@pytest.mark.parametrize("ending", ["resolved", "called away", "timeout"])
def test_a_waiters_claim_that_arrives_late_is_void(scene: Scene, proxy: Proxy, cancel: Any, ending: str) -> None:
    scene.put("web")
    timeout = 3.0 if ending == "timeout" else -1
    waiter = scene.queue(scene.realm(proxy.url).lock("web"), timeout, cancel=cancel)
    held = proxy.hold_request(TXN, puts(scene.key("web")))
    scene.delete("web")
    held.wait()
    if ending == "resolved":
        held.drop()
        waiter.result(PROMPT).release()
    else:
        if ending == "called away":
            cancel.set()
        with pytest.raises((Cancelled, AcquireTimeout)):
            waiter.result(BOUND)
    assert not scene.replay(held.body)
    scene.assert_clean()


def test_a_ticket_that_arrives_after_its_owner_has_gone_is_void(scene: Scene, proxy: Proxy, cancel: Any) -> None:
    scene.put("web")
    held = proxy.hold_request(TXN, puts_under(scene.key("web/queue/")))
    waiter = scene.acquire(scene.realm(proxy.url).lock("web"), cancel=cancel)
    held.wait()
    cancel.set()
    with pytest.raises(Cancelled):
        waiter.result(BOUND)
    assert not scene.replay(held.body)
    scene.assert_clean("web")


# Lost, and etcd away until the deadline: in doubt, and said to be.


def went_away(scene: Scene, proxy: Proxy, *, silent: bool, ticket: bool, timeout: float = 2.5) -> OutcomeUnknown:
    """A claim is applied, its reply is lost, and etcd is not there any more: how the call ends."""
    if ticket:
        scene.put("web")
        claim = scene.queue(scene.realm(proxy.url).lock("web"), timeout)
        reply = proxy.hold_reply(TXN, puts(scene.key("web")))
        scene.delete("web")
    else:
        reply = proxy.hold_reply(TXN, puts(scene.key("web")))
        claim = scene.acquire(scene.realm(proxy.url).lock("web"), timeout)
    reply.wait()
    if silent:
        proxy.blackhole()
    else:
        proxy.cut()
    with pytest.raises(OutcomeUnknown) as caught:
        claim.result(BOUND)
    return caught.value


@pytest.mark.parametrize("silent", [False, True], ids=["refusing", "silent"])
@pytest.mark.parametrize("ticket", [False, True], ids=["newcomer", "waiter"])
def test_an_outcome_not_resolved_before_the_deadline_is_unknown(
    scene: Scene, proxy: Proxy, silent: bool, ticket: bool
) -> None:
    unknown = went_away(scene, proxy, silent=silent, ticket=ticket)
    assert unknown.kind == "unknown"
    assert unknown.run == scene.record("web").run
    assert unknown.run
    assert unknown.run in unknown.message
    assert "realm.unlock('web')" in str(unknown)


def test_a_call_to_a_silent_etcd_ends_in_time(scene: Scene, proxy: Proxy) -> None:
    started = time.monotonic()
    went_away(scene, proxy, silent=True, ticket=False, timeout=2.0)
    assert time.monotonic() - started < 12


@pytest.mark.parametrize("waits", ["not", "for a while", "in line"])
def test_the_final_message_has_a_budget_of_one_second(scene: Scene, proxy: Proxy, waits: str) -> None:
    """A claim, a lease and a ticket are to be given up while etcd is silent: one second for all, not for each."""
    lock = scene.realm(proxy.url, connect_timeout=2.0).lock("web", ttl=5)
    started = time.monotonic()
    if waits == "in line":
        scene.put("web")
        claim = scene.queue(lock, 4.0)
        reply = proxy.hold_reply(TXN, puts(scene.key("web")))
        scene.delete("web")
    else:
        reply = proxy.hold_reply(TXN, puts(scene.key("web")))
        claim = scene.acquire(lock, 0 if waits == "not" else 4.0)
    reply.wait()
    proxy.blackhole()
    with pytest.raises(OutcomeUnknown):
        claim.result(BOUND)
    patience = 3.0 if waits == "not" else 4.0  # a caller who does not wait has the first contact, and a second more
    assert time.monotonic() - started < patience + 1 + 0.9


def test_nothing_is_in_doubt_when_the_claim_was_never_sent(scene: Scene, proxy: Proxy) -> None:
    """Read, and then no connection comes about any more."""
    realm = Realm(CutBeforeWrite(gateway(proxy.url), proxy), scene.prefix, connect_timeout=1.0)
    with pytest.raises(EtcdUnavailable, match="refused"):
        realm.lock("web").acquire(0)
    scene.assert_clean()


class CutBeforeWrite:
    """etcd, which goes away between a read and the write that follows."""

    def __init__(self, etcd: Gateway, proxy: Proxy) -> None:
        self._etcd = etcd
        self._proxy = proxy

    def __getattr__(self, name: str) -> Any:
        if name == "txn":
            self._proxy.cut()
        return getattr(self._etcd, name)


def test_a_claim_that_came_through_at_the_last_moment_is_held(scene: Scene, proxy: Proxy) -> None:
    """The time is up while the reply is on its way; the last look at etcd finds it applied."""
    reply = proxy.hold_reply(TXN, puts(scene.key("web")))
    claim = scene.acquire(scene.realm(proxy.url).lock("web"), 2.0)
    reply.wait()
    lock = claim.result(BOUND)
    assert lock.verify()
    lock.release()
    scene.assert_clean()


# Called away, at each stage: nothing is left behind.


def stages(scene: Scene) -> dict[str, tuple[str, Any]]:
    return {
        "the first read": (TXN, None),
        "the claim": (TXN, puts(scene.key("free"))),
        "the lease": (GRANT, None),
        "the ticket": (TXN, puts_under(scene.key("web/queue/"))),
        "the watch": (WATCH, None),
    }


@pytest.mark.parametrize("what", ["the first read", "the claim", "the lease", "the ticket", "the watch"])
@pytest.mark.parametrize("hold", ["hold_request", "hold_reply"])
def test_a_cancelled_caller_leaves_nothing_behind_at(
    scene: Scene, proxy: Proxy, cancel: Any, what: str, hold: str
) -> None:
    path, when = stages(scene)[what]
    scene.put("web")
    held = getattr(proxy, hold)(path, when)
    lock = scene.realm(proxy.url).lock("free" if what == "the claim" else "web")
    call = scene.acquire(lock, cancel=cancel)
    held.wait()
    cancel.set()
    since = time.monotonic()
    with pytest.raises(Cancelled):
        call.result(BOUND)
    assert time.monotonic() - since < PROMPT
    scene.assert_clean("web")


def test_a_caller_cancelled_while_it_waits_leaves_nothing_behind(scene: Scene, proxy: Proxy, cancel: Any) -> None:
    scene.put("web")
    waiter = scene.queue(scene.realm(proxy.url).lock("web"), cancel=cancel)
    until(lambda: proxy.streams == 1)
    cancel.set()
    with pytest.raises(Cancelled):
        waiter.result(BOUND)
    scene.assert_clean("web")


def test_a_caller_cancelled_while_it_connects_ends_at_once(scene: Scene, proxy: Proxy, cancel: Any) -> None:
    proxy.blackhole()
    call = scene.acquire(scene.realm(proxy.url, connect_timeout=60).lock("web"), cancel=cancel)
    proxy.wait_for_requests(TXN)
    cancel.set()
    with pytest.raises(Cancelled):
        call.result(PROMPT)
    proxy.heal()
    scene.assert_clean()
