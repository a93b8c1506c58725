"""Uninterrupted: which signal handlers are replaced while a block must not be interrupted."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from distlock_core.base.uninterrupted import Uninterrupted
from distlock_core.cli.signals import interrupt_on_signals


@pytest.fixture
def restored() -> Any:
    before = {number: signal.getsignal(number) for number in range(1, signal.NSIG)}
    yield
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)


def test_what_a_handler_raises_is_raised_at_the_end_of_the_block(restored: None) -> None:
    def fail(number: int, frame: object) -> None:
        raise ZeroDivisionError

    reached = []

    def block() -> None:
        with Uninterrupted():
            os.kill(os.getpid(), signal.SIGUSR1)
            reached.append(True)

    signal.signal(signal.SIGUSR1, fail)
    with pytest.raises(ZeroDivisionError):
        block()
    assert reached
    assert signal.getsignal(signal.SIGUSR1) is fail


def test_the_handler_of_the_command_raises_nothing_and_is_not_replaced(restored: None) -> None:
    interrupt = interrupt_on_signals()
    handler = signal.getsignal(signal.SIGTERM)
    with Uninterrupted():
        assert signal.getsignal(signal.SIGTERM) is handler
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.signal == signal.SIGTERM


def test_a_later_call_counts_anew_and_sets_only_its_own_interrupt(restored: None) -> None:
    first = interrupt_on_signals()
    second = interrupt_on_signals(2)
    os.kill(os.getpid(), signal.SIGTERM)
    assert not second.is_set()
    os.kill(os.getpid(), signal.SIGHUP)
    assert second.signal == signal.SIGHUP
    assert not first.is_set()


def test_a_signal_that_the_caller_ignores_stays_ignored(restored: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt = interrupt_on_signals()
    os.kill(os.getpid(), signal.SIGHUP)
    assert not interrupt.is_set()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_handler_that_was_set_meanwhile_is_replaced(restored: None) -> None:
    interrupt_on_signals()
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    interrupt = interrupt_on_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupt.is_set()
