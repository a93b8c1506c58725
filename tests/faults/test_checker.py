"""The checker finds every kind of broken promise, and accepts what is documented."""

from __future__ import annotations

from tests.support.faults.checker import Rules, violations
from tests.support.faults.history import Event

RULES = Rules("/r/", {"one": 1, "two": 2, "mixed": 1}, kill_after=1.0)


def asked(at: float, who: str, attempt: int = 1, *, lock: str = "one", leased: bool = False, rank: int = 50) -> Event:
    return Event(at, who, "asked", {"attempt": attempt, "locks": [lock], "leased": leased, "rank": rank})


def answered(at: float, who: str, attempt: int = 1, code: int = 0) -> Event:
    return Event(at, who, "answered", {"attempt": attempt, "code": code, "said": ""})


def alive(
    begin: float,
    end: float,
    who: str,
    token: int,
    *,
    attempt: int = 1,
    lock: str = "one",
    key: str = "/r/one",
    role: str = "command",
) -> list[Event]:
    facts = {"lock": lock, "token": token, "key": key, "attempt": attempt, "role": role}
    return [Event(at, who, "alive", facts) for at in (begin, end)]


def nemesis(at: float, what: str, **facts: object) -> Event:
    return Event(at, "nemesis", what, facts)


def whole(who: str, begin: float, end: float, token: int, code: int = 0, *, leased: bool = False) -> list[Event]:
    """An attempt that asks just before, and ends just after."""
    works = alive(begin, end, who, token)
    return [asked(begin - 0.1, who, leased=leased), *works, answered(end + 0.1, who, code=code)]


def put(revision: int, key: str, created: int | None = None, owner: str = "") -> Event:
    facts = {"key": key, "revision": revision, "created": created or revision, "owner": owner}
    return Event(revision, "etcd", "put", facts)


def gone(revision: int, key: str) -> Event:
    return Event(revision, "etcd", "gone", {"key": key, "revision": revision})


def found(*events: Event) -> list[str]:
    return violations(sorted(events, key=lambda event: event.at), RULES)


def ticket(number: int, rank: int = 50, kind: str = "exclusive", lock: str = "one") -> str:
    return f"/r/{lock}/queue/{rank:02}/{kind}/{number:016x}"


def test_one_after_the_other_is_right() -> None:
    assert found(*whole("a", 1, 2, 5), *whole("b", 2.5, 3, 7)) == []


def test_two_holders_of_one_slot_are_found() -> None:
    (one,) = found(*whole("a", 1, 3, 5), *whole("b", 2.5, 4, 7))
    assert one.startswith("held by too many: b's command under one, token 7")


def test_a_child_that_outlives_its_lock_is_found() -> None:
    child = alive(1, 3, "a", 5, role="child")
    (one,) = found(*whole("a", 1, 2, 5), *child, *whole("b", 2.5, 4, 7))
    assert "a's child" in one


def test_a_third_holder_of_two_slots_is_found() -> None:
    def holder(who: str, token: int, slot: int) -> list[Event]:
        key = "/r/two" if not slot else f"/r/two/slot/{slot}"
        works = alive(1 + token / 10, 5, who, token, lock="two", key=key)
        return [asked(1, who, lock="two"), *works, answered(6, who)]

    assert found(*holder("a", 1, 0), *holder("b", 2, 1)) == []
    (one,) = found(*holder("a", 1, 0), *holder("b", 2, 1), *holder("c", 3, 2))
    assert one.startswith("held by too many: c's")


def test_an_exclusive_holder_beside_a_shared_one_is_found() -> None:
    def holder(who: str, token: int, key: str) -> list[Event]:
        works = alive(1 + token / 10, 5, who, token, lock="mixed", key=key)
        return [asked(1, who, lock="mixed"), *works, answered(6, who)]

    assert found(*holder("a", 1, "/r/mixed/shared/x"), *holder("b", 2, "/r/mixed/shared/y")) == []
    assert len(found(*holder("a", 1, "/r/mixed/shared/x"), *holder("b", 2, "/r/mixed"))) == 1


def test_what_the_documentation_excuses_is_no_violation() -> None:
    late = [*whole("a", 1, 3, 5, code=2), *whole("b", 2.5, 4, 7)]
    assert found(*late, nemesis(2, "deleting", key="/r/one", token=5)) == []
    assert found(*late, nemesis(2, "paused", client="a", attempt=1)) == []
    assert len(found(*late, nemesis(2.7, "paused", client="a", attempt=1))) == 1  # stopped too late to be the reason
    assert len(found(*late, nemesis(2, "deleting", key="/r/one", token=4))) == 1  # another hold
    child = [*whole("a", 1, 2, 5, code=-9), *alive(1, 3, "a", 5, role="child"), *whole("b", 2.5, 4, 7)]
    assert found(*child, nemesis(1.5, "killed", client="a", attempt=1)) == []
    assert len(found(*late, nemesis(1.5, "killed", client="a", attempt=1))) == 1  # the command itself dies with it


def test_a_token_that_does_not_grow_is_found() -> None:
    assert len(found(*whole("a", 1, 2, 5), *whole("b", 2.5, 3, 4))) == 1
    assert any("one token twice" in one for one in found(*whole("a", 1, 2, 5), *whole("b", 2.5, 3, 5)))


def test_a_leased_command_that_works_on_without_its_hold_is_found() -> None:
    deleted = [nemesis(2, what, key="/r/one", token=5) for what in ("deleting", "deleted")]
    assert found(*whole("a", 1, 2.9, 5, code=2, leased=True), *deleted) == []
    (one,) = found(*whole("a", 1, 3.1, 5, code=2, leased=True), *deleted)
    assert one.startswith("works on 1.1 s after its hold was deleted")
    assert found(*whole("a", 1, 3.1, 5, code=2), *deleted) == []  # a persistent one is not ended


def test_a_lost_lock_that_is_reported_as_success_is_found() -> None:
    (one,) = found(*whole("a", 1, 2, 5, code=0), nemesis(1.5, "deleted", key="/r/one", token=5))
    assert one.startswith("lost, and exit 0")


def test_a_hold_that_is_left_behind_by_a_success_is_found() -> None:
    broken = Event(9, "operator", "broken", {"client": "a", "attempt": 1, "key": "/r/one"})
    assert found(*whole("a", 1, 2, 5, code=1), broken) == []
    assert found(*whole("a", 1, 2, 5, code=0), broken) == ["left behind, and exit 0: attempt 1 of a"]


def test_a_claim_out_of_turn_is_found() -> None:
    first, second = ticket(1), ticket(2)
    right = [put(1, first), put(2, second), put(3, "/r/one"), gone(3, first), gone(4, "/r/one")]
    assert found(*right, put(5, "/r/one"), gone(5, second)) == []
    (one,) = found(put(1, first), put(2, second), put(3, "/r/one"), gone(3, second))
    assert one == f"acquired out of turn: /r/one at revision 3; {first} has waited since revision 1"
    assert len(found(put(1, first), put(2, "/r/one"))) == 1  # without a ticket


def test_a_claim_before_a_lower_rank_is_found() -> None:
    first, urgent = ticket(1), ticket(2, rank=10)
    assert len(found(put(1, first), put(2, urgent), put(3, "/r/one"), gone(3, first))) == 1
    taken = (put(1, first), put(2, urgent), put(3, "/r/one", owner="a-1"), gone(3, urgent))
    whose = (asked(0, "a", rank=10), answered(9, "a"))
    assert found(*taken, *whose) == []
    # Without a ticket: it has to wait for those of its rank and of lower ones.
    assert found(put(1, first), put(2, "/r/one", owner="a-1"), *whose) == []
    assert len(found(put(1, urgent), put(2, "/r/one", owner="a-1"), *whose)) == 1


def test_shared_claims_do_not_wait_for_each_other() -> None:
    first, second = ticket(1, kind="shared", lock="mixed"), ticket(2, kind="shared", lock="mixed")
    assert found(put(1, first), put(2, second), put(3, "/r/mixed/shared/x"), gone(3, second)) == []
    exclusive = ticket(1, lock="mixed")
    assert len(found(put(1, exclusive), put(2, second), put(3, "/r/mixed/shared/x"), gone(3, second))) == 1


def test_a_claim_beside_another_or_while_frozen_is_found() -> None:
    assert len(found(put(1, "/r/one"), put(2, "/r/one/slot/1"))) == 1
    assert len(found(put(1, "/r/mixed/shared/x"), put(2, "/r/mixed"))) == 1
    assert found(put(1, "/r/__freeze"), put(2, "/r/one")) == ["acquired while frozen: /r/one at revision 2"]
    assert found(put(1, "/r/__freeze"), gone(2, "/r/__freeze"), put(3, "/r/one")) == []
    assert found(put(1, "/r/one"), put(2, "/r/__freeze"), put(3, "/r/one", created=1)) == []  # a record written again


def test_who_is_stuck_is_found() -> None:
    assert found(asked(1, "a")) == ["never answered: attempt 1 of a, for ['one']"]
    calm = nemesis(5, "calm")
    assert found(*whole("a", 1, 2, 5), calm) == ["never in again after the faults: a"]
    again = [asked(5.5, "a", 2), *alive(6, 7, "a", 9, attempt=2), answered(8, "a", 2)]
    assert found(*whole("a", 1, 2, 5), calm, *again) == []


def test_what_is_left_in_etcd_is_found() -> None:
    assert found(nemesis(9, "left", key="/r/one/queue/50/exclusive/1")) == ["left in etcd: /r/one/queue/50/exclusive/1"]
    assert found(nemesis(9, "left", key="/r/__last/one")) == []
