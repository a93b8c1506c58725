"""Hooks: lines of shell that are run when a lock has been acquired, lost or released, with the facts in variables."""

from __future__ import annotations

import os

from distlock_core.base.deadline import Patience, now
from distlock_core.base.value import Value
from distlock_core.errors import Cancelled, CheckFailed
from distlock_core.process.nesting import HELD, HOOK_FACTS, LEASE, TOKEN, for_command, without_own
from distlock_core.rollout.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distlock_core.base.deadline import Cancel
    from distlock_core.model.state import Holder

ACQUIRED, LOST, RELEASED = "acquired", "lost", "released"
FROZEN, COOLING = "frozen", "cooling"  # ways to release, beside RELEASED
TIMEOUT = 10.0  # seconds
TO_END = 4.0  # seconds beyond its limit that a hook may take to be ended, and to be told of
LONGEST = 4096  # characters of a text in a variable: all of them together, and the arguments, share a limit
NOT_FOUND = (126, 127)  # the shell's own exit codes, for a program that it cannot run or find


class Hooks(Value):
    """The hooks of a `LockManager`: lines that `/bin/sh -c` reads, each run for at most `timeout` seconds."""

    on_acquired: str | None = None
    on_lost: str | None = None
    on_released: str | None = None
    timeout: float = TIMEOUT


def facts_of(holders: Sequence[Holder]) -> dict[str, str]:
    """The variables of a hook that are the same for each event."""
    first = holders[0]
    facts = {
        "DISTLOCK_LOCK_NAME": "\n".join(holder.lock for holder in holders),
        TOKEN: first.token,
        "DISTLOCK_OWNER": first.owner,
        "DISTLOCK_LOCK_REASON": first.reason,
        "DISTLOCK_SINCE": first.since,
    }
    return {name: str(value)[:LONGEST] for name, value in facts.items() if value is not None}


def held_facts(holders: Sequence[Holder], lease: int | None) -> dict[str, str]:
    """The variables of a hook that is run while the locks are held, as a command under them has them."""
    environ = for_command(os.environ, holders, lease)
    return {name: environ[name] for name in (TOKEN, HELD, LEASE) if name in environ}


def environ_of(facts: Mapping[str, str]) -> dict[str, str]:
    """The environment of a hook: this process's own, without the settings of this call and an outer hook's facts."""
    mine = without_own(os.environ)
    for name in (HELD, TOKEN, *HOOK_FACTS):
        mine.pop(name, None)
    return {**mine, **facts}


class RunningHook:
    """A hook that runs, for at most `seconds`. Never raises: what goes wrong is told by `wait()`."""

    def __init__(self, line: str, facts: Mapping[str, str], seconds: float, output: int | None = None) -> None:
        """Start it. `output` is a descriptor for both its outputs; without one, its last line tells of a failure."""
        self._seconds = seconds
        self._until = now() + seconds
        self._problem = ""
        self._shell: Shell | None = None
        try:
            self._shell = Shell(line, environ_of(facts), output, leaves=False)
        except CheckFailed as error:
            self._problem = error.message

    def wait(self, cancel: Cancel | None = None) -> str:
        """Wait for its end, and return what went wrong in words, "" if nothing did.

        At its time, or when the cancel is set, it is ended with all that it has started: SIGTERM, and SIGKILL a second
        later. What it leaves in its process group when it ends by itself is killed.
        """
        shell = self._shell
        if shell is None:
            return self._problem
        try:
            status = shell.wait(Patience(self._until, cancel))
        except CheckFailed as error:
            return error.message
        except Cancelled:
            return "it was ended early"
        finally:
            shell.end()
        if status is None:
            return f"it has not ended within {self._seconds:g}s, and was ended"
        said = f": {shell.last_line}" if status and shell.last_line else ""
        if status < 0:
            return f"signal {-status} has ended it{said}"
        if status in NOT_FOUND:
            return f"exit code {status}: a program that it names is not there, or cannot be executed{said}"
        return f"exit code {status}{said}" if status else ""
