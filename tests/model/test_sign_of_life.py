"""The last sign of life: what etcd tells about a lease, judged without comparing clocks, and in words."""

from __future__ import annotations

import time

import pytest

from distlock_core.etcd.values import KeyValue
from distlock_core.model.record import Record, without_beat
from distlock_core.model.sign_of_life import LASTS, SignOfLife, sign_record
from distlock_core.model.wording import sign_of_life

AT = 1_795_263_660.0
TERM = 7


def sign(
    silent: int, *, every: int = 15, written: int = TERM, term: int = TERM, **details: object
) -> SignOfLife | None:
    """The sign of a hold of ten days, from a lease that was last renewed this number of seconds ago."""
    record = Record(int(AT) - 10 * 86400, "node-9", {"run": "r", "beat": every, "beat_lease": 5, **details})
    kv = KeyValue(b"k", sign_record("node-9", every, written), 1, 1, 5)
    return SignOfLife.of(record, kv, LASTS - silent, term, AT)


@pytest.mark.parametrize(
    ("silent", "written", "alive", "words"),
    [
        (0, TERM, True, "last sign of life {at}, 0s ago (one every 15s)"),
        (46, TERM, True, "last sign of life {at}, 46s ago (one every 15s)"),
        (47, TERM, False, "SILENT: last sign of life {at}, 47s ago (one every 15s is expected)"),
        (7500, TERM, False, "SILENT: last sign of life {at}, 2h05m ago (one every 15s is expected)"),
        (12, TERM + 1, True, "last sign of life {at}, 12s ago (one every 15s)"),  # this member lags behind
        (
            12,
            TERM - 1,
            None,
            "unknown: no sign of life since {at}, 12s ago, when etcd changed its leader (one every 15s is expected)",
        ),
        (
            6480,
            TERM - 1,
            False,
            "SILENT since {at}, 1h48m ago, when etcd changed its leader, or for longer (one every 15s is expected)",
        ),
        (12, 0, None, "unknown: no sign"),  # a proxy that tells no term
    ],
)
def test_it_is_judged_by_what_the_lease_has_left(silent: int, written: int, alive: bool | None, words: str) -> None:
    found = sign(silent, written=written)
    assert found is not None
    assert (found.is_alive, found.silent, found.at) == (alive, silent, AT - silent)
    form = "%H:%M:%S" if time.localtime(AT - silent)[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M:%S"
    at = time.strftime(form, time.localtime(AT - silent))
    assert sign_of_life(found).startswith(words.format(at=at))


def test_an_etcd_that_tells_no_term_leaves_a_doubt() -> None:
    found = sign(0, term=0)
    assert found is not None
    assert (found.is_alive, found.doubt) == (None, "leader")


def test_more_than_its_ttl_is_not_negative() -> None:
    found = sign(-3, written=TERM - 1)  # right after an election
    assert found is not None
    assert found.silent == 0


def test_a_lease_that_is_gone_has_expired_if_the_hold_is_old_enough_and_else_was_deleted() -> None:
    details = {"run": "r", "beat": 60, "beat_lease": 5}
    old = SignOfLife.of(Record(int(AT) - LASTS, "x", details), None, 0, TERM, AT)
    young = SignOfLife.of(Record(int(AT) - 3600, "x", details), None, 0, TERM, AT)
    assert old is not None
    assert young is not None
    assert (old.silent, old.is_alive, old.doubt) == (LASTS, False, "expired")
    assert (young.silent, young.is_alive, young.at, young.doubt) == (None, None, None, "deleted")
    assert sign_of_life(old) == "SILENT for more than 7d00h (one every 1m00s is expected)"
    assert sign_of_life(young) == "unknown: its key in etcd was deleted (one every 1m00s)"


@pytest.mark.parametrize("state", ["kept", "cooling"])
def test_a_hold_that_no_process_looks_after_has_none(state: str) -> None:
    assert sign(0, state=state) is None
    settling = sign(0, state="settling")
    assert settling is not None
    assert settling.is_alive is True


@pytest.mark.parametrize("beat", [None, "15", 0, -1, True, 1.5])
def test_a_strange_record_has_none(beat: object) -> None:
    assert sign(0, beat=beat) is None


def test_a_hold_that_is_left_taken_says_so_no_more() -> None:
    record = Record(1, "x", {"run": "r", "beat": 15, "beat_lease": 5, "reason": "y"})
    assert without_beat(record).details == {"run": "r", "reason": "y"}
