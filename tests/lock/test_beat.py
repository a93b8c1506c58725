"""A sign of life beside a persistent hold: it comes and goes with the hold, says how long its process is silent, and
lets nobody in."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Callable

import pytest

from distlock_core import Cancelled, ConfigError, EtcdUnavailable, Lock, LockBusy, LockLost, Realm
from distlock_core.base.deadline import Patience, now
from distlock_core.errors import NoSpace
from distlock_core.lock.hold import Hold
from distlock_core.lock.lock import hold_of
from distlock_core.lock.others_holds import keep_holds
from distlock_core.model.sign_of_life import LASTS
from distlock_core.model.state import Holder
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_servers import ENDS
from tests.support.scene import BOUND, GRANT, KEEPALIVE, TXN, Scene, deletes, puts, puts_under, until

HOLDER = """
import sys
from distlock_core import connect
realm = connect([sys.argv[1]], sys.argv[2])
lock = realm.lock("web", "me", beat=1).acquire(0)
print(lock.holder.record.run, flush=True)
sys.stdin.read()
lock.release()
"""


@pytest.fixture(params=ENDS)
def own(start_etcd: Callable[..., Cluster], realm_prefix: str, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A scene in an etcd that may be restarted."""
    with start_etcd(version=request.param) as cluster:
        scene = Scene(cluster, realm_prefix)
        yield scene
        scene.close()


@pytest.fixture
def holder(scene: Scene) -> Iterator[subprocess.Popen[str]]:
    """A process that holds `web` and gives a sign of life every second. It releases when its input ends."""
    words = [sys.executable, "-c", HOLDER, scene.endpoints[0], scene.prefix]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
        process.kill()


def only(realm: Realm, name: str = "web") -> Holder:
    (found,) = realm.show(name).holders
    return found


def signs(scene: Scene, name: str = "web") -> list[str]:
    """The runs whose sign of life is there."""
    return [kv.key.decode().rpartition("/")[2] for kv in scene.under(f"{name}/alive/")]


def beats(lock: Lock) -> Hold:
    """The hold, with a beat that is due now."""
    hold = hold_of(lock)
    beat = hold.acquired[0].beat
    assert beat is not None
    beat._lease.renew_at = 0.0
    return hold


def beat_now(lock: Lock) -> None:
    beats(lock)._go_on(Patience.lasting(BOUND))


# It comes and goes with the hold.


def test_the_claim_brings_it_and_the_release_takes_it_away(scene_each: Scene) -> None:
    realm = scene_each.realm()
    lock = realm.lock("web", "me", beat=15).acquire(0)
    found = only(realm)
    (sign,) = scene_each.under("web/alive/")
    assert sign.key == scene_each.key(f"web/alive/{found.record.run}")
    assert sign.create_revision == found.token
    assert scene_each.new_leases() == {sign.lease}
    assert (found.lease, found.lifetime) == (0, "persistent")
    assert found.sign is not None
    assert (found.sign.every, found.sign.doubt, found.alive) == (15, "", True)
    assert found.last_beat is not None
    assert abs(time.time() - found.last_beat) < BOUND
    (listed,), (brief,) = realm.list(), realm.list(brief=True)
    assert (listed.holders[0].alive, brief.holders[0].alive, listed.name) == (True, True, "web")
    lock.release()
    scene_each.assert_clean()


@pytest.mark.parametrize("end", ["release", "keep", "cool", "freeze", "unlock", "break", "keep by another"])
def test_whatever_ends_the_hold_takes_it_away_in_the_same_transaction(scene: Scene, proxy: Proxy, end: str) -> None:
    realm = scene.realm(proxy.url)
    lock = realm.lock("web", "me", beat=3600).acquire(0)
    (sign,) = scene.under("web/alive/")
    ends: dict[str, Callable[[], object]] = {
        "release": lock.release,
        "keep": lambda: lock.keep("look"),
        "cool": lambda: lock.cool(3600),
        "freeze": lambda: lock.freeze("look"),
        "unlock": lambda: realm.unlock("web"),
        "break": lambda: realm.break_hold(only(realm), "why"),
        "keep by another": lambda: keep_holds(realm, [only(realm)], "look"),
    }
    ends[end]()
    (body,) = [body for body in proxy.wait_for_requests(TXN) if deletes(sign.key)(body)]
    assert (puts if end in ("keep", "cool", "keep by another") else deletes)(scene.key("web"))(body)
    assert signs(scene) == []
    if scene.get("web") is not None:
        assert (only(realm).sign, "beat" in only(realm).record.details) == (None, False)
        realm.unlock("web")
    if end == "freeze":
        realm.thaw("web")
    if lock.held or lock.lost.is_set():
        with pytest.raises(LockLost):
            lock.release()
    scene.assert_clean()


def test_several_locks_have_one_lease_for_their_signs(scene: Scene) -> None:
    realm, names = scene.realm(), ("a", "b", "c")
    with realm.lock(names, beat=15):
        assert len(scene.new_leases()) == 1
        assert [only(realm, name).alive for name in names] == [True] * 3
    scene.assert_clean()
    realm.lock(names, beat=15, background=False).acquire(0)
    realm.unlock("a")
    assert [only(realm, name).alive for name in names[1:]] == [True] * 2  # its lease is not revoked with it
    realm.unlock_all(names[1:])
    assert signs(scene, "b") == []
    realm.lock(names, beat=15, background=False).acquire(0)
    realm.unlock_all(names)
    assert len(scene.new_leases()) == 1  # of those that were not unlocked together: it expires


def test_slots_and_shared_holders_have_one_each(scene: Scene) -> None:
    realm = scene.realm()
    with realm.lock("web", slots=2, beat=15), realm.lock("web", slots=2), realm.lock("db", shared=True, beat=15):
        assert sorted(one.alive is True for one in realm.show("web").holders) == [False, True]
        assert [one.alive for one in realm.show("db").holders] == [True]
        assert len(signs(scene)) == 1
    scene.assert_clean()


def test_a_refused_or_interrupted_claim_leaves_nothing(scene: Scene, proxy: Proxy) -> None:
    held = scene.realm().lock("web").acquire(0)
    with pytest.raises(LockBusy):
        scene.realm().lock("web", beat=15).acquire(0)
    held.release()
    scene.assert_clean()
    # The claim is refused at the last moment, and given up.
    on_its_way = proxy.hold_request(TXN, puts_under(scene.key("web/alive/")))
    attempt = scene.start(lambda: scene.realm(proxy.url).lock("web", beat=15).acquire(0))
    on_its_way.wait()
    scene.put("web")
    on_its_way.release()
    with pytest.raises(LockBusy):
        attempt.result(BOUND)
    scene.assert_clean("web")
    # The claim is applied, but its caller has given up by then.
    scene.delete("web")
    replied = proxy.hold_reply(TXN, puts_under(scene.key("web/alive/")))
    attempt = scene.start(lambda: scene.realm(proxy.url).lock("web", beat=15).acquire(cancel=scene.curtain))
    replied.wait()
    assert len(signs(scene)) == 1
    scene.curtain.set()
    replied.release()
    with pytest.raises(Cancelled):
        attempt.result(BOUND)
    scene.assert_clean()


def test_a_waiter_brings_it_with_its_claim(scene: Scene) -> None:
    first = scene.realm().lock("web").acquire(0)
    waiter = scene.queue(scene.realm().lock("web", beat=15))
    assert signs(scene) == []
    first.release()
    lock = waiter.result(BOUND)
    assert only(scene.realm()).alive is True
    lock.release()
    scene.assert_clean()


def test_a_waiter_whose_grant_is_not_answered_beats_all_the_same(scene: Scene, proxy: Proxy) -> None:
    """The lease exists, but only the second answer is seen: the hold must be watched, and so notice its loss."""
    first = scene.realm().lock("web").acquire(0)
    waiting = scene.realm(proxy.url).lock("web", beat=15)
    waiter = scene.queue(waiting)
    is_away, lost = True, []

    def is_lost(body: bytes) -> bool:
        if json.loads(body)["TTL"] == str(LASTS):
            lost.append(body)
            return is_away
        return False

    proxy.lose_reply(GRANT, is_lost, times=10_000)
    first.release()
    until(lambda: lost)
    time.sleep(3.5)  # longer than a call may take in the queue
    assert not waiter.done()
    is_away = False
    lock = waiter.result(BOUND)
    beat_now(lock)
    assert only(scene.realm()).alive is True
    scene.delete("web")
    assert lock.lost.wait(BOUND)
    with pytest.raises(LockLost):
        lock.release()


def test_the_next_run_after_a_dead_one_gives_its_own(scene: Scene) -> None:
    words = [sys.executable, "-c", HOLDER, scene.endpoints[0], scene.prefix]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        dead = process.stdout.readline().strip()
        process.kill()
    assert signs(scene) == [dead]
    before = only(scene.realm()).token
    with scene.realm().lock("web", "me", beat=15) as lock:
        assert lock.token > before
        assert signs(scene) == [lock.holder.record.run] != [dead]
        assert only(scene.realm()).alive is True
    scene.assert_clean()  # the dead run's lease too


def test_what_a_dead_run_has_left_beside_the_lock_that_is_taken_over_stays_silent(scene: Scene) -> None:
    code = HOLDER.replace('"web"', '["web", "db"]').replace("lock.holder.record.run", "lock.tokens")
    words = [sys.executable, "-c", code, scene.endpoints[0], scene.prefix]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.kill()
    realm = scene.realm()
    with realm.lock("web", "me", beat=15):
        pass
    assert len(signs(scene, "db")) == 1
    sign = only(realm, "db").sign
    assert sign is not None
    assert sign.silent is not None
    with realm.lock("db", "me", beat=15):
        pass
    assert signs(scene, "db") == []


def test_a_run_inside_a_step_gives_its_own_and_the_step_stays(scene: Scene) -> None:
    realm = scene.realm()
    step = realm.lock("web", "me", step=True).acquire(0)
    with realm.lock("web", "me", beat=15):
        assert len(signs(scene)) == 1
        assert only(realm).alive is True
    assert signs(scene) == []
    assert (only(realm).token, only(realm).sign) == (step.token, None)
    step.release()
    scene.assert_clean()


def test_it_goes_without_a_ttl_and_not_with_a_step(scene: Scene) -> None:
    for options in ({"ttl": 10}, {"step": True}):
        with pytest.raises(ConfigError, match="beat: a lock gives signs of life only without a"):
            scene.realm().lock("web", beat=15, **options)
    for wrong in (0, -1, 86401, True):
        with pytest.raises(ConfigError, match="the beat must be a whole number of seconds from 1 to 86400"):
            scene.realm().lock("web", beat=wrong)


def test_a_beat_keeps_no_lease_from_its_renewal(scene: Scene) -> None:
    """A lock that gets a ttl while it beats: an etcd that hangs must not hide the end of that for seconds."""
    lock = scene.realm().lock("web", beat=60, background=False).acquire(0)
    lock.ttl = 5
    lock.acquire()
    hold = beats(lock)
    left: list[float] = []

    def hang(_lease: int, patience: Patience, **_: object) -> int:
        left.append(patience.left())
        raise EtcdUnavailable("it hangs")

    assert hold.lease is not None
    hold.lease.renew_at = now() + 0.1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hold._etcd, "keep_alive", hang)
        hold.session._keep(Patience.lasting(BOUND))
    assert 0 < left[0] < 0.5
    lock.release()
    scene.assert_clean()


# It lets nobody in.


def test_no_condition_of_a_claim_is_about_it(scene: Scene, proxy: Proxy) -> None:
    realm = scene.realm(proxy.url)
    scene.put("web/alive/stray", "1;someone;{}")
    with realm.lock("web", beat=15), pytest.raises(LockBusy):
        realm.lock("web").acquire(0)
    bodies = [json.loads(body) for body in proxy.wait_for_requests(TXN)]
    compared = {base64.b64decode(one["key"]) for body in bodies for one in body.get("compare", ())}
    assert compared
    assert not any(b"/alive/" in key for key in compared)
    on_its_way = proxy.hold_request(TXN, lambda body: b"compare" in body)
    claim = scene.start(lambda: realm.lock("web", timeout=0).acquire(0))
    on_its_way.wait()
    scene.put("web/alive/late", "1;someone;{}")
    on_its_way.release()
    claim.result(BOUND).release()


def test_its_end_by_hand_ends_no_hold_and_lets_nobody_in_and_it_comes_back(scene: Scene) -> None:
    realm = scene.realm()
    lock = realm.lock("web", beat=1).acquire(0)
    (run,), (lease,) = signs(scene), scene.new_leases()
    scene.revoke(lease)
    assert scene.realm().lock("web").try_acquire() is None
    until(lambda: signs(scene) == [run])
    assert lock.verify()
    assert not lock.lost.is_set()
    assert only(realm).alive is True
    assert scene.new_leases() == {lease}
    lock.release()
    scene.assert_clean()


def test_a_sign_that_is_deleted_by_hand_leaves_a_doubt_and_not_a_false_answer(scene: Scene) -> None:
    lock = scene.realm().lock("web", beat=60).acquire(0)
    scene.clear("web/alive/")
    found = only(scene.realm()).sign
    assert found is not None
    assert (found.is_alive, found.doubt) == (None, "leader")
    (lease,) = scene.new_leases()
    scene.revoke(lease)
    found = only(scene.realm()).sign
    assert found is not None
    assert (found.is_alive, found.doubt, found.silent) == (None, "deleted", None)
    lock.release()
    scene.assert_clean()


def test_no_sign_comes_back_beside_a_hold_that_is_gone(scene: Scene) -> None:
    lock = scene.realm().lock("web", beat=60, background=False).acquire(0)
    (lease,) = scene.new_leases()
    scene.revoke(lease)
    scene.replace("web")
    beat_now(lock)
    assert signs(scene) == []
    assert scene.new_leases() == set()
    beat_now(lock)  # it is over
    assert scene.new_leases() == set()


def test_a_hold_that_is_deleted_by_hand_takes_it_along(scene: Scene) -> None:
    lock = scene.realm().lock("web", beat=60).acquire(0)
    scene.delete("web")
    assert lock.lost.wait(BOUND)
    with pytest.raises(LockLost):
        lock.release()
    scene.assert_clean()


def test_it_is_no_lock_no_event_and_no_history(scene: Scene) -> None:
    realm = scene.realm()
    scene.put("web/alive/r", "1;node-9;{}", scene.grant())
    assert realm.list() == []
    assert realm.show("web").holders == ()
    assert [entry.kind for entry in realm.history()] == ["reach"]
    with realm.watch() as watching:
        with realm.lock("web", beat=15):
            assert next(watching).kind == "acquired"
        assert next(watching).kind == "released"
    (hold,) = [entry for entry in realm.history() if entry.kind == "hold"]
    assert hold.ended is not None
    assert hold.ended.how == "released"


# Who is silent.


def test_a_stopped_process_is_silent_a_continued_one_alive_and_a_killed_one_silent(
    scene: Scene, holder: subprocess.Popen[str]
) -> None:
    realm = scene.realm()
    assert only(realm).alive is True
    holder.send_signal(signal.SIGSTOP)
    until(lambda: only(realm).alive is False)
    holder.send_signal(signal.SIGCONT)
    until(lambda: only(realm).alive is True)
    holder.kill()
    until(lambda: only(realm).alive is False)
    found = only(realm)
    assert found.sign is not None
    assert found.sign.silent is not None
    assert 4 < found.sign.silent < BOUND
    assert realm.lock("web", "another").try_acquire() is None
    realm.break_hold(found, "it is gone")
    scene.assert_clean()


def test_it_goes_on_after_etcd_was_away(scene: Scene) -> None:
    with Proxy(scene.endpoints[0]) as proxy:
        lock = scene.realm(proxy.url).lock("web", beat=1).acquire(0)
        proxy.wait_for_requests(KEEPALIVE)
        proxy.cut()
        until(lambda: only(scene.realm()).alive is False)
        proxy.heal()
        until(lambda: only(scene.realm()).alive is True)
        assert not lock.lost.is_set()
        lock.release()
    scene.assert_clean()


@pytest.mark.parametrize("error", [OSError, RuntimeError, MemoryError])
def test_whatever_a_beat_raises_the_hold_goes_on(scene: Scene, error: type[Exception]) -> None:
    lock = scene.realm().lock("web", beat=60, background=False).acquire(0)
    hold = beats(lock)

    def fail(*_: object, **__: object) -> int:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hold._etcd, "keep_alive", fail)
        next_at = hold._go_on(Patience.lasting(BOUND))
    assert next_at < float("inf")
    assert lock.verify()
    beat_now(lock)
    assert only(scene.realm()).alive is True
    lock.release()
    scene.assert_clean()


def test_an_etcd_that_is_full_is_not_asked_to_write_every_second(scene: Scene) -> None:
    """After a change of leader, when all holders of a fleet have to write their signs again."""
    lock = scene.realm().lock("web", beat=60, background=False).acquire(0)
    hold = beats(lock)
    beat = hold.acquired[0].beat
    assert beat is not None
    beat._term -= 1
    asked: list[object] = []

    def refuse(*words: object) -> None:
        asked.append(words)
        raise NoSpace("full")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hold._etcd, "txn", refuse)
        next_at = hold._go_on(Patience.lasting(BOUND))
    assert len(asked) == 1
    assert 5 < next_at - now() < 60
    beat_now(lock)
    assert only(scene.realm()).alive is True
    lock.release()
    scene.assert_clean()


def test_a_sign_whose_lease_was_ended_is_written_again_until_that_succeeds(scene: Scene) -> None:
    lock = scene.realm().lock("web", beat=60, background=False).acquire(0)
    scene.revoke(lock.holder.record.number("beat_lease") or 0)
    assert signs(scene) == []
    hold = beats(lock)

    def fail(*_: object) -> None:
        raise EtcdUnavailable("away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hold._etcd, "txn", fail)
        hold._go_on(Patience.lasting(BOUND))
    assert signs(scene) == []
    beat_now(lock)
    assert len(signs(scene)) == 1
    assert only(scene.realm()).alive is True
    lock.release()
    scene.assert_clean()


def test_after_a_change_of_leader_it_is_unknown_until_the_next_beat(own: Scene) -> None:
    """A new leader starts all leases again: a dead process would look alive."""
    realm = own.realm()
    living = realm.lock("living", beat=60, background=False).acquire(0)
    realm.lock("dead", beat=60, background=False).acquire(0)
    own.cluster.members[0].restart()
    for name in ("living", "dead"):
        found = only(realm, name).sign
        assert found is not None
        assert (found.is_alive, found.doubt) == (None, "leader")
        assert found.silent is not None
        assert found.silent < 60
    beat_now(living)
    assert only(realm, "living").alive is True
    assert only(realm, "dead").alive is None
    before = own.under("living/alive/")
    beat_now(living)
    assert own.under("living/alive/") == before  # written once for each change
    living.release()
    assert own.under("living") == ()


def test_it_costs_a_lease_and_no_commit_while_it_is_held(own: Scene) -> None:
    def commits() -> float:
        return own.cluster.members[0].metric("etcd_server_proposals_committed_total")

    with Proxy(own.endpoints[0]) as proxy:
        realm = own.realm(proxy.url)
        before = commits()
        with realm.lock("web", beat=60, background=False) as lock:
            assert commits() - before == 2  # the lease, and the lock with its sign
            for _ in range(3):
                beat_now(lock)
            realm.show("web")
            realm.list()
            assert commits() - before == 2
        assert commits() - before == 4
        before = commits()
        with realm.lock("web"):
            realm.show("web")
        assert commits() - before == 2
        assert len(proxy.wait_for_requests(GRANT)) == 1
        assert len(proxy.wait_for_requests("/v3/lease/timetolive")) == 2


def test_its_lease_outlives_the_process_by_days(scene: Scene) -> None:
    lock = scene.realm().lock("web", beat=1, background=False).acquire(0)
    (lease,) = scene.new_leases()
    left = scene._etcd.time_to_live(lease, Patience.lasting(BOUND))
    assert LASTS - 60 < left <= LASTS
    lock.release()
