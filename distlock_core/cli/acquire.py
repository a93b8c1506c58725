"""Acquisition of the lock that a request names, shared by all operations that acquire."""

from __future__ import annotations

from distlock_core.cli.command_line import Request
from distlock_core.cli.outcome import say, tell
from distlock_core.errors import Cancelled
from distlock_core.model.wording import are

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeVar

    from distlock_core.base.deadline import Interrupt
    from distlock_core.cli.progress import Progress
    from distlock_core.cli.signals import InterruptOrHangup
    from distlock_core.lock.acquire import Waiting
    from distlock_core.lock.lock import Lock
    from distlock_core.lock.realm import Realm
    from distlock_core.lock.wait_story import Waited, Watcher
    from distlock_core.model.state import Holder
    from distlock_core.process.while_alive import WhileAlive

    QuitRequest = TypeVar("QuitRequest", Interrupt, InterruptOrHangup)

_OPEN_REALMS: list[Realm] = []  # held until the process ends, which closes their connections


def realm(request: Request) -> Realm:
    """Return the realm that the settings name."""
    from distlock_core.connection import realm_of

    found = realm_of(request.settings)
    _OPEN_REALMS.append(found)
    return found


def lock_for(request: Request, details: Mapping[str, Any] | None = None) -> Lock:
    """Return the requested lock, not yet acquired. A step is taken for distlock's caller."""
    from distlock_core.connection import lock_of
    from distlock_core.process.identity import caller

    step = request.operation == "lock"
    return lock_of(
        realm(request),
        request.settings,
        step=step,
        details=details,
        taker=caller() if step else None,
        token=request.token,
    )


def acquire(request: Request, lock: Lock, interrupt: Interrupt | None = None) -> Interrupt:
    """Wait for the lock. A signal, or the end of stderr's reader, gives up the place in the queue.

    Returns the interrupt that a later signal sets: the given one, if signals already set it.
    """
    from distlock_core.cli.signals import InterruptOrHangup, interrupt_on_signals

    settings = request.settings
    interrupt = interrupt or interrupt_on_signals()
    quit_request = InterruptOrHangup(interrupt)
    shown: list[Progress] = []
    watched: list[Watcher] = []

    def show(waiting: Waiting) -> None:
        quit_request.watch_output()
        if not shown:
            from distlock_core.cli.progress import Progress  # imported only if there is a wait
            from distlock_core.lock.wait_story import Watcher

            shown.append(Progress(quiet=settings.quiet, json=settings.json))
            watched.append(Watcher(shown[0]))
        watched[0](waiting)

    cancel = until(quit_request, request.waits_for or _step_taker(request))
    try:
        lock.acquire(settings.timeout, cancel, show)
    except Cancelled as error:
        if quit_request.is_hangup:
            raise _unheard() from error
        raise cancelled(interrupt) from error
    finally:
        for progress in shown:
            progress.close()
        if cancel is not quit_request:
            cancel.close()
        quit_request.close()
    for watcher in watched:
        _tell_wait(lock, watcher.story(), request)
    if settings.verbose:
        say(f"got {_with_tokens(lock)}")
    return interrupt


def acquire_bound(request: Request) -> tuple[Holder, ...]:
    """Acquire the lock for `--while-pid PID` and hand it to a keeper. Return the hold of each lock.

    Raises `DistlockError`; then nothing is locked.
    """
    from distlock_core.connection import connect_arguments
    from distlock_core.keeper.bind import Binding, hand_to_keeper
    from distlock_core.process.identity import trace_of

    settings = request.settings
    hooks = {key: settings.by_key(key) for key in ("on_lost", "on_released", "hook_timeout")}
    binding = Binding.of(settings)._replace(**hooks)
    lock = lock_for(request, trace_of(binding.pid))
    interrupt = acquire(request, lock)

    def check() -> None:
        if interrupt.is_set():
            raise cancelled(interrupt)

    holders = hand_to_keeper(lock, binding, connect_arguments(settings), check)
    if settings.verbose:
        say(f"{are(lock.names)} kept by process {holders[0].keeper} while process {binding.pid} lives")
    return holders


def _tell_wait(lock: Lock, story: Waited | None, request: Request) -> None:
    """Report the wait for the lock, as JSON or for a tool's report."""
    if story is None or request.settings.quiet:
        return
    if request.settings.json:
        from distlock_core.cli.json_output import as_json

        each = [{"lock": name, "token": token} for name, token in lock.tokens.items()]
        found = each[0] if len(each) == 1 else {"locks": each}
        tell(as_json({"acquired": {**found, **story.fields(), "story": str(story)}}))
    elif request.tells_wait:
        tokens = " and ".join(map(str, dict.fromkeys(lock.tokens.values())))
        say(f"{are(lock.names)} locked, token {tokens}, {story}")


def _with_tokens(lock: Lock) -> str:
    """`rack-7, token 17`; of several locks `rack-7, token 17; percona_prod, token 17`."""
    return "; ".join(f"{name}, token {token}" for name, token in lock.tokens.items())


def _step_taker(request: Request) -> tuple[int, int] | None:
    """The process for which a step is taken. Its end ends the wait, as nothing else would release. None under nohup."""
    from distlock_core.base.plain_signal import signal
    from distlock_core.process.identity import caller

    bound = request.settings.while_pid is not None
    if request.operation != "lock" or bound or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return None
    taker = caller()
    return (taker["pid"], taker["start"]) if taker.get("pid", 1) > 1 and "start" in taker else None


def until(quit_request: QuitRequest, process: tuple[int, int] | None) -> QuitRequest | WhileAlive:
    """A cancel that is set by `quit_request`, or by the end of a process (pid and start time)."""
    if process is None:
        return quit_request
    from distlock_core.process.while_alive import WhileAlive

    return WhileAlive(*process, quit_request=quit_request)


def cancelled(interrupt: Interrupt) -> Cancelled:
    """The error that names the signal that has ended the call."""
    from distlock_core.command.signal_mask import name_of

    if interrupt.signal is None:
        return Cancelled("the process that this lock was for has ended: the lock was not taken")
    error = Cancelled(f"ended by {name_of(interrupt.signal)} before the lock was used; nothing is left behind")
    error.signal = interrupt.signal
    return error


def _unheard() -> Cancelled:
    from distlock_core.base.plain_signal import signal

    error = Cancelled(
        "nobody reads stderr any more (an ssh that has ended?): the place in the queue was given up; to wait all the "
        "same, start it with nohup"
    )
    error.signal = signal.SIGHUP
    return error
