"""`--gate` after the command: the lock is released once the gate is green, and kept if it is not in time."""

from __future__ import annotations

import os

from distlock_core.base.value import Value
from distlock_core.cli.command_line import Request
from distlock_core.cli.outcome import FAILED, fail, say
from distlock_core.cli.signals import interrupt_on_signals
from distlock_core.command.end import ExitedBySignal
from distlock_core.command.signal_mask import SignalMask, name_of
from distlock_core.errors import Cancelled, DistlockError, LockLost, NotSettled
from distlock_core.lock.lock import hold_of
from distlock_core.process import nesting
from distlock_core.rollout.gate import gate_of, settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.lock.lock import Lock


class Unsettled(Value):
    """Why a lock is not released: in words, for its record, and the exit code of a command that has succeeded."""

    why: str
    code: int


def wait_for_gate(request: Request, lock: Lock, mask: SignalMask) -> Unsettled | None:
    """Wait until the gate is green: None then, or if the lock is lost, which its release reports.

    A signal ends the wait. The lock is then to be kept, as nobody has seen that the cluster is healthy.
    """
    settings = request.settings
    if hold_of(lock).stays:
        return None  # it neither takes nor releases: the outer one does, and its gate
    gate = gate_of(settings, nesting.for_command(os.environ, lock.holders, lock.lease))
    interrupt = interrupt_on_signals()
    mask.restore()
    if settings.verbose:
        say(f"{lock.name}: the command is done; waiting for the gate")
    try:
        settle(lock, gate, interrupt)
    except LockLost:
        return None
    except Cancelled:
        number = interrupt.signal or 0
        name = name_of(number)
        say(f"{lock.name}: {name} has ended the wait for the gate: the lock is left taken; {gate.story}")
        return Unsettled(f"{name} has ended the wait; {gate.story}", ExitedBySignal(128 + number))
    except NotSettled as error:
        error.message += ": the lock is left taken for a person to look at"
        fail(error, json=settings.json, to_stderr=True)
        return Unsettled(gate.story, FAILED)
    except Exception as error:  # noqa: BLE001 - nobody knows whether the cluster is healthy: the lock is kept
        what = f"{lock.name}: not released: {type(error).__name__}: {error}"
        fail(DistlockError(what), json=settings.json, to_stderr=True)
        return Unsettled(f"{type(error).__name__}: {error}", FAILED)
    return None
