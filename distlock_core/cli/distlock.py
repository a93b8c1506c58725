"""distlock: run a command under a lock, or lock, unlock, list, show and verify one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from distlock_core.cli import environment
from distlock_core.cli.options import Request, UsageError, error_form, parse
from distlock_core.errors import AcquireTimeout, Cancelled, DistlockError, LockBusy, LockLost, NotStarted
from distlock_core.model import Keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.lock import Lock
    from distlock_core.patience import Interrupt
    from distlock_core.realm import Realm

OK, FAILED, LOST, NOT_STARTED = 0, 1, 2, 3
NOTHING_CONFIGURED = (
    "No endpoint is configured: set --endpoints or DISTLOCK_ENDPOINTS; to try things out, distlock-etcd starts an etcd"
)


def main() -> int:
    """The console script. Returns the exit code."""
    import signal

    # Python would turn Ctrl-C into an exception anywhere; here it ends the process until something else is wanted.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None when the caller has closed it
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    code = run(sys.argv[1:])
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        _give_up(sys.stderr)
    if code == 128 + signal.SIGINT:
        _die_at_the_terminal(code)
    return code


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments ask for, and say what went wrong in one line. Returns the exit code."""
    try:
        request = parse(arguments)
    except DistlockError as error:
        json, has_command = error_form(arguments, os.environ)
        return _fail(error, json=json, to_stderr=has_command)
    if request.operation == "run":
        return _run(request)
    try:
        return {
            "list": _list,
            "show": _show,
            "verify": _verify,
            "lock": _lock,
            "unlock": _unlock,
            "help": _help,
            "version": _version,
        }[request.operation](request)
    except DistlockError as error:
        return _fail(error, json=request.settings["json"], to_stderr=False, busy=request.settings["busy_exit_code"])


# The operations.


def _run(request: Request) -> int:
    from distlock_core import supervisor

    settings = request.settings
    try:
        lock = _wanted(request)
        interrupt = _acquire(request, lock)
    except DistlockError as error:
        return _fail(error, json=settings["json"], to_stderr=True, busy=settings["busy_exit_code"])
    mask = supervisor.SignalMask()
    try:
        if interrupt.is_set():
            raise _cancelled(interrupt)
        ended = supervisor.run(request.command, environment.for_command(os.environ, lock), mask)
        code, signal_number = ended.exit_code, ended.signal
        if signal_number is not None and settings["verbose"]:
            _say(f"the command was ended by signal {signal_number}")
    except (NotStarted, Cancelled) as error:
        code = _fail(error, json=settings["json"], to_stderr=True)
    return _release(request, lock, code, mask)


def _lock(request: Request) -> int:
    lock = _wanted(request)
    _acquire(request, lock)
    if request.settings["json"]:
        from distlock_core.cli.render import as_json, locks_json

        return _print(as_json({"locks": locks_json(_realm(request).show(lock.name))}))
    return OK


def _unlock(request: Request) -> int:
    from distlock_core.cli.signals import interrupt_on_signals

    settings = request.settings
    owner = settings["id"]
    second = interrupt_on_signals(2)
    holder = _realm(request).unlock(
        settings["lockname"], owner, token=request.token, force=request.force, cancel=second
    )
    if settings["json"]:
        from distlock_core.cli.render import as_json, holder_json

        return _print(as_json({"unlocked": holder_json(holder)}))
    if settings["verbose"]:
        from distlock_core.wording import held_by

        _say(f"unlocked {holder.lock}, which was held by {held_by(holder)}")
    return OK


def _list(request: Request) -> int:
    from distlock_core.cli.render import as_json, locks_json, table

    states = _realm(request).list()
    if request.settings["json"]:
        return _print(as_json({"locks": [lock for state in states for lock in locks_json(state)]}))
    if states:
        return _print(table(states))
    if not request.settings["quiet"]:
        _say(f"no locks under {request.settings['prefix']}")
    return OK


def _show(request: Request) -> int:
    from distlock_core.cli.render import as_json, card, locks_json

    state = _realm(request).show(request.settings["lockname"])
    return _print(as_json({"locks": locks_json(state)}) if request.settings["json"] else card(state))


def _verify(request: Request) -> int:
    settings, token = request.settings, request.token
    if token is None:
        token = environment.token(os.environ, Keys(settings["prefix"], settings["lockname"]))
    if token is None:
        raise UsageError("--verify needs the token to look for: --token=N, or DISTLOCK_TOKEN from the command's own")
    name = settings["lockname"]
    if not _realm(request).verify(name, token):
        raise LockLost(f"token {token} does not hold {name}", state=_realm(request).show(name))
    if settings["json"]:
        from distlock_core.cli.render import as_json

        return _print(as_json({"verified": {"lock": name, "token": token}}))
    if settings["verbose"]:
        _say(f"token {token} holds {name}")
    return OK


def _help(_: Request) -> int:
    from distlock_core.cli.help import HELP

    return _print(HELP.rstrip())


def _version(_: Request) -> int:
    from distlock_core import __version__

    return _print(f"distlock {__version__}")


# Getting and letting go.


def _realm(request: Request) -> Realm:
    from distlock_core.realm import DEFAULT_ENDPOINTS, connect

    settings = request.settings
    endpoints = settings["endpoints"]
    return connect(
        endpoints or DEFAULT_ENDPOINTS,
        settings["prefix"],
        mutex=settings["internallock"],
        connect_timeout=settings["connect_timeout"],
        release_timeout=settings["release_timeout"],
        hint="" if endpoints else NOTHING_CONFIGURED,
    )


def _wanted(request: Request) -> Lock:
    settings = request.settings
    return _realm(request).lock(
        settings["lockname"],
        settings["id"],
        settings["reason"],
        slots=settings["slots"],
        step=request.operation == "lock",
        inside=environment.held_around(os.environ),
    )


def _acquire(request: Request, lock: Lock) -> Interrupt:
    """Wait for the lock; a signal gives up the place in line. Returns what a later signal sets."""
    from distlock_core.cli.progress import Progress
    from distlock_core.cli.signals import interrupt_on_signals

    settings = request.settings
    interrupt = interrupt_on_signals()
    progress = Progress(quiet=settings["quiet"], json=settings["json"])
    try:
        lock.acquire(settings["timeout"], interrupt, progress)
    except Cancelled as error:
        raise _cancelled(interrupt) from error
    finally:
        progress.close()
    if settings["verbose"]:
        _say(f"got {lock.name}, token {lock.token}")
    return interrupt


def _cancelled(interrupt: Interrupt) -> Cancelled:
    import signal

    name = signal.Signals(interrupt.signal or signal.SIGINT).name
    error = Cancelled(f"ended by {name} before the lock was used; nothing is left behind")
    error.signal = interrupt.signal or signal.SIGINT
    return error


def _release(request: Request, lock: Lock, code: int, mask: Any) -> int:
    """Let go after the command, and finish that even when signals arrive. The second one gives up on an etcd away."""
    from distlock_core.cli.signals import interrupt_on_signals

    settings = request.settings
    second = interrupt_on_signals(2)
    mask.restore()
    try:
        lock.release(second)
    except LockLost as error:
        return _fail(error, json=settings["json"], to_stderr=True)
    except DistlockError as error:
        error.message = (
            f"{lock.name} may still be locked: {error.message}. "
            f"When etcd is back: distlock --unlock --lock-name={lock.name} --token={lock.token}"
        )
        failed = _fail(error, json=settings["json"], to_stderr=True)
        return code or failed
    if settings["verbose"]:
        _say(f"released {lock.name}")
    return code


# Telling.


def _fail(error: DistlockError, *, json: bool, to_stderr: bool, busy: int = FAILED) -> int:
    """Say what went wrong, and return the exit code for it. JSON goes to stdout, unless a command owns that."""
    from distlock_core.cli.render import as_json, error_json, say, tell

    if json:
        (tell if to_stderr else _print)(as_json(error_json(error)))
    else:
        say(error.message)
    if isinstance(error, Cancelled) and error.signal is not None:
        from distlock_core.supervisor import ExitedBySignal

        return ExitedBySignal(128 + error.signal)
    if isinstance(error, (LockBusy, AcquireTimeout)):
        return busy
    return LOST if isinstance(error, LockLost) else NOT_STARTED if isinstance(error, NotStarted) else FAILED


def _say(message: str) -> None:
    from distlock_core.cli.render import say

    say(message)


def _print(text: str) -> int:
    """A result, on stdout. Returns the exit code: the reader (`| head`) may have gone, or the disk be full."""
    try:
        print(text, flush=True)
    except OSError as error:
        _give_up(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            _say(f"cannot write to stdout: {error.strerror}")
        return FAILED
    return OK


def _die_at_the_terminal(code: int) -> None:
    """End by Ctrl-C as a program does. A shell that saw an exit code instead would go on with its loop or script."""
    import signal

    from distlock_core.supervisor import ExitedBySignal, in_the_foreground

    if isinstance(code, ExitedBySignal) and in_the_foreground():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def _give_up(stream: Any) -> None:
    """Nobody reads it any more. Python's own flush at the end must not complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
