"""The meaning of a `timeout`, and the pauses between retries."""

from __future__ import annotations

import pytest

from distlock_core.base.deadline import NO_WAIT, WAIT_FOREVER, Backoff, Wait, jittered


@pytest.mark.parametrize("timeout", [None, -1, -0.001, -1e9], ids=str)
def test_no_timeout_and_a_negative_one_wait_for_ever(timeout: float | None) -> None:
    assert Wait.of(timeout) == WAIT_FOREVER
    assert not Wait.of(timeout).is_none


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0])
def test_a_timeout_of_zero_does_not_wait(timeout: float) -> None:
    assert Wait.of(timeout) == NO_WAIT
    assert Wait.of(timeout).is_none


@pytest.mark.parametrize("timeout", [0.001, 1, 90.5])
def test_any_other_timeout_is_its_seconds(timeout: float) -> None:
    assert Wait.of(timeout).seconds == timeout
    assert not Wait.of(timeout).is_none


def test_pauses_double_up_to_the_longest_and_restart_after_an_answer() -> None:
    pauses = Backoff(0.1, 1.0)
    for _ in range(20):
        for expected in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
            assert expected * 0.5 <= pauses.next() < expected * 1.5
        pauses.reset()


def test_pauses_that_are_capped_are_never_longer() -> None:
    pauses = Backoff(0.1, 0.3, most=1)
    assert all(pauses.next() < 0.3 for _ in range(200))


def test_equal_pauses_are_jittered_apart() -> None:
    found = {jittered(1.0, 0.75, 1.25) for _ in range(200)}
    assert len(found) > 20
    assert min(found) >= 0.75
    assert max(found) < 1.25
