"""From a request to a lock that is held: what every operation that acquires shares."""

from __future__ import annotations

from distlock_core.cli.options import Request
from distlock_core.cli.outcome import say
from distlock_core.errors import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from distlock_core.acquisition import Waiting
    from distlock_core.cli.progress import Progress
    from distlock_core.config import Settings
    from distlock_core.lifetime import WhileAlive
    from distlock_core.lock import Lock
    from distlock_core.patience import Interrupt
    from distlock_core.realm import Realm

NOTHING_CONFIGURED = (
    "No endpoint is configured: set --endpoints or DISTLOCK_ENDPOINTS; to try things out, distlock-etcd starts an etcd"
)


def realm(request: Request) -> Realm:
    """Return the realm that the settings name."""
    from distlock_core.connection import connect

    return connect(**arguments(request.settings))


def arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `connect()` that the settings stand for."""
    from distlock_core import connection

    return connection.arguments(settings, NOTHING_CONFIGURED)


def wanted(request: Request, details: Mapping[str, Any] | None = None) -> Lock:
    """Return the lock that is asked for, not yet acquired."""
    from distlock_core import connection
    from distlock_core.whoami import taker

    step = request.operation == "lock"
    return connection.wanted(
        realm(request), request.settings, step=step, details=details, taker=taker() if step else None
    )


def acquire(request: Request, lock: Lock) -> Interrupt:
    """Wait for the lock; a signal gives up the place in line. Returns what a later signal sets."""
    from distlock_core.cli.signals import interrupt_on_signals

    settings = request.settings
    interrupt = interrupt_on_signals()
    shown: list[Progress] = []

    def show(waiting: Waiting) -> None:
        if not shown:
            from distlock_core.cli.progress import Progress  # only where there is something to wait for

            shown.append(Progress(quiet=settings["quiet"], json=settings["json"]))
        shown[0](waiting)

    cancel = until(interrupt, request.waits_for)
    try:
        lock.acquire(settings["timeout"], cancel, show)
    except Cancelled as error:
        raise cancelled(interrupt) from error
    finally:
        for progress in shown:
            progress.close()
        if cancel is not interrupt:
            cancel.close()
    if settings["verbose"]:
        say(f"got {lock.name}, token {lock.token}")
    return interrupt


def until(interrupt: Interrupt, process: tuple[int, int] | None) -> Interrupt | WhileAlive:
    """A cancel that is set by the interrupt, or by the end of a process (its pid and start time)."""
    if process is None:
        return interrupt
    from distlock_core.lifetime import WhileAlive

    return WhileAlive(*process, told=interrupt)


def cancelled(interrupt: Interrupt) -> Cancelled:
    """The error that says which signal has ended the call."""
    import signal

    if interrupt.signal is None:
        return Cancelled("the process that this lock was for has ended: the lock was not taken")
    name = signal.Signals(interrupt.signal).name
    error = Cancelled(f"ended by {name} before the lock was used; nothing is left behind")
    error.signal = interrupt.signal
    return error
