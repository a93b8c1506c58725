"""Threads of the code under test: those that were started since the current test began, setup included."""

from __future__ import annotations

import threading

import pytest

OWN = "distlock-"  # how the code under test names its threads

_others: set[threading.Thread] = set()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Do not count threads that earlier tests have left running."""
    _others.clear()
    _others.update(threading.enumerate())


def own_threads(name: str = OWN) -> list[str]:
    """The names of the threads that are running and whose names begin with this."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(name) and thread not in _others]
