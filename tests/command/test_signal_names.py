"""The names of signals in messages."""

from __future__ import annotations

import signal

import pytest

from distlock_core.command.signal_mask import name_of


@pytest.mark.parametrize("number", sorted(signal.Signals))
def test_a_signal_has_the_name_that_python_gives_it(number: signal.Signals) -> None:
    assert name_of(int(number)) == number.name


def test_a_signal_without_a_name_has_its_number() -> None:
    assert name_of(35) == "signal 35"
