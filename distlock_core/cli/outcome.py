"""Outcome of a call: its messages and its exit code."""

from __future__ import annotations

import os
import sys

from distlock_core.base.text import printable
from distlock_core.errors import (
    AcquireTimeout,
    Cancelled,
    DistlockError,
    EtcdUnavailable,
    LockBusy,
    LockLost,
    NotStarted,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from distlock_core.settings.options import Settings

OK, FAILED, LOST, NOT_STARTED, NO_LIFE = 0, 1, 2, 3, 4
NOT_EXAMINED = 3  # of `--doctor`, as of a monitoring plugin that cannot tell
OVERDUE = 124  # as of timeout(1)


def not_done(error: DistlockError, settings: Settings, *, to_stderr: bool) -> int:
    """As `fail()`, with the exit codes that the settings name for a busy lock and for an etcd that is away.

    A busy lock is no failure if its code is 0; with `quiet` it is then not reported, as cron would mail it.
    """
    is_busy = isinstance(error, (LockBusy, AcquireTimeout))
    if is_busy and settings.quiet and settings.busy_exit_code == OK:
        return OK
    code = fail(error, json=settings.json, to_stderr=to_stderr)
    if is_busy:
        return settings.busy_exit_code
    return settings.unreachable_exit_code if isinstance(error, EtcdUnavailable) else code


def fail(error: DistlockError, *, json: bool, to_stderr: bool) -> int:
    """Report an error, and return its exit code. JSON goes to stdout, unless stdout belongs to a command."""
    if json:
        from distlock_core.cli.json_output import as_json, error_json

        (tell if to_stderr else out)(as_json(error_json(error)))
    else:
        say(_in_commands(error))
    if isinstance(error, Cancelled) and error.signal is not None:
        from distlock_core.command.end import ExitedBySignal

        return ExitedBySignal(128 + error.signal)
    return LOST if isinstance(error, LockLost) else NOT_STARTED if isinstance(error, NotStarted) else FAILED


def _in_commands(error: DistlockError) -> str:
    if not error.hints:
        return error.message
    from distlock_core.cli.hint import in_commands

    return in_commands(error)


def say(message: str) -> None:
    """Write one line to stderr, prefixed with `distlock: `."""
    tell(f"distlock: {printable(message)}")


def tell(line: str) -> None:
    """Write a line to stderr. Errors are ignored, since a lock may still have to be released."""
    if sys.stderr is not None:  # None if the caller has closed it
        try:
            # In one write, even with PYTHONUNBUFFERED: others, such as the command, write there too.
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
        except OSError:
            pass


def warn(lines: Sequence[str], *, json: bool) -> None:
    """Write warnings to stderr, optionally as JSON."""
    for line in lines:
        if json:
            from distlock_core.cli.json_output import as_json

            tell(as_json({"warning": {"message": line}}))
        else:
            say(f"warning: {line}")


def out(text: str) -> int:
    """Write a result to stdout. Return the exit code: the reader (`| head`) may have gone, or the disk may be full."""
    try:
        print(text, flush=True)
    except OSError as error:
        give_up(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            say(f"cannot write to stdout: {error.strerror}")
        return FAILED
    return OK


def give_up(stream: Any) -> None:
    """Stop using a stream without a reader, so that Python's own flush at exit does not complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
