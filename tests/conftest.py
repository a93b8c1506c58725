"""The fixtures and hooks of all tests, from `tests/support/`."""

from __future__ import annotations

import compileall
import os
import signal
import sys

import pytest

import distlock_core

pytest_plugins = [
    "tests.support.command_fixtures",
    "tests.support.etcd_fixtures",
    "tests.support.failure_report",
    "tests.support.puppet_fixtures",
    "tests.support.realm_fixtures",
    "tests.support.scheduling",
    "tests.support.threads",
]

# Also where PYTHONDONTWRITEBYTECODE is set: what pytest makes of a test file is kept, not made again by each worker.
sys.dont_write_bytecode = False


def pytest_sessionstart(session: pytest.Session) -> None:
    """Undo what the tests' caller would change in every program that a test starts.

    Under nohup or as a shell's background job, signals are ignored, and programs inherit that.
    With PYTHONDONTWRITEBYTECODE, thousands of commands would compile by themselves what has changed.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if not hasattr(session.config, "workerinput"):
        compileall.compile_dir(os.path.dirname(distlock_core.__file__), quiet=2)
