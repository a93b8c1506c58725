"""The operation without a name: run a command under the lock."""

from __future__ import annotations

import os

from distlock_core import supervisor
from distlock_core.cli import environment, getting
from distlock_core.cli.options import Request
from distlock_core.cli.outcome import LOST, NO_LIFE, NOT_STARTED, OK, OVERDUE, fail, say
from distlock_core.cli.signals import interrupt_on_signals
from distlock_core.errors import Cancelled, DistlockError, LockLost, NotStarted
from distlock_core.signalmask import SignalMask
from distlock_core.supervisor import HUNG, Care, Ended, Supervisor
from distlock_core.whoami import hostname
from distlock_core.wording import named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.gate import Gate
    from distlock_core.heartbeat import Heartbeat
    from distlock_core.lock import Lock

AFTER_LOSS = 2.0  # seconds that a lock already lost may take to tidy up
LONGEST_REASON = 500  # characters of a command in a reason


def run(request: Request, lock: Lock | None = None) -> int:
    """Get the lock, run the command, let go. Returns the exit code. `lock`: another than the settings name."""
    settings = request.settings
    gate = None
    try:
        lock = lock or getting.wanted(request)
        gate = _gate(request, lock)
        interrupt = getting.acquire(request, lock)
    except DistlockError as error:
        if gate is not None:
            gate.close()
        return fail(error, json=settings["json"], to_stderr=True, busy=settings["busy_exit_code"])
    mask = SignalMask()
    try:
        if interrupt.is_set():
            raise getting.cancelled(interrupt)
        ended = _supervise(request, lock, mask, gate)
    except (NotStarted, Cancelled) as error:
        if gate is not None:
            gate.close()
        return _release(request, lock, fail(error, json=settings["json"], to_stderr=True), mask)
    if ended.signal is not None and settings["verbose"]:
        say(f"the command was ended by signal {ended.signal}")
    return _finish(request, lock, ended, mask)


def _gate(request: Request, lock: Lock) -> Gate | None:
    """The command's process, before the lock is claimed, where the lock may be taken over later: its record names it.

    Under a lease, and with a heartbeat, the command is started in another way; it ends with distlock, or its lock does.
    """
    settings = request.settings
    if not lock.is_explicit or settings["ttl"] is not None or settings["heartbeat"] is not None or settings["node"]:
        return None
    from distlock_core.gate import Gate

    gate = Gate(request.command)
    lock.add_details({"command": gate.trace})
    return gate


def _supervise(request: Request, lock: Lock, mask: SignalMask, gate: Gate | None) -> Ended:
    settings = request.settings
    care = Care(
        lock.session,
        settings.on_loss == "kill",
        settings.kill_after,
        lambda cause, line: _tell(request, cause, f"{lock.name}: {line}"),
        _heartbeat(request),
        request.limit,
    )
    command = ["node", *request.command] if settings["node"] else request.command
    return Supervisor(command, environment.for_command(os.environ, lock), mask, care, gate).run()


def _tell(request: Request, cause: str, line: str) -> None:
    if not request.settings["json"]:
        say(line)
        return
    from distlock_core.cli.render import as_json, tell

    kind = {supervisor.LOST: "lost", supervisor.HUNG: "no_life"}.get(cause, cause)
    tell(as_json({"error": {"kind": kind, "message": line}}))


def _heartbeat(request: Request) -> Heartbeat | None:
    settings = request.settings
    limit = settings["heartbeat"]
    if settings["node"]:
        from distlock_core.heartbeat import NodePings

        limit = limit or float(settings["ttl"])
        return NodePings(min(settings["refresh"] or limit / 3, limit), limit)
    if limit is None:
        return None
    from distlock_core.heartbeat import Watchdog

    return Watchdog(limit, os.environ.get("NOTIFY_SOCKET", ""))


def _finish(request: Request, lock: Lock, ended: Ended, mask: SignalMask) -> int:
    """Let go of the lock, or leave it as the policy for such an end says."""
    settings = request.settings
    if ended.unkillable:
        pids = ", ".join(map(str, ended.unkillable))
        kept = "if it is still there, " if ended.cause == supervisor.LOST else ""
        say(f"{lock.name}: cannot kill process {pids}: {kept}the lock is left taken, so that nobody else goes on")
        return _leave(request, lock, f"process {pids} of {_shown(request)} could not be killed", NOT_STARTED, mask)
    by_cause = {supervisor.LOST: LOST, supervisor.HUNG: NO_LIFE, supervisor.OVERDUE: OVERDUE}
    code = by_cause.get(ended.cause, ended.exit_code)
    if ended.cause != supervisor.LOST and code != OK and settings["on_failure"] == "hold":
        how = {HUNG: "showed no life", supervisor.OVERDUE: "took too long"}.get(ended.cause, f"ended with {code}")
        return _leave(request, lock, f"{_shown(request)} {how} on {hostname()}", code, mask)
    if code == OK and settings["cooldown"] is not None and not lock.stays:
        return _part(request, lock, code, mask, "cooling:", settings["cooldown"])
    return _release(request, lock, code, mask)


def _shown(request: Request) -> str:
    command = " ".join(request.command)
    command = command if len(command) <= LONGEST_REASON else command[:LONGEST_REASON] + "..."
    return command.encode("utf-8", "backslashreplace").decode()


def _leave(request: Request, lock: Lock, why: str, code: int, mask: SignalMask) -> int:
    reason = request.settings["reason"]
    return _part(
        request, lock, code, mask, "left taken for a person to look at:", f"{why} ({reason})" if reason else why
    )


def _release(request: Request, lock: Lock, code: int, mask: SignalMask) -> int:
    return _part(request, lock, code, mask, "released", None)


def _part(request: Request, lock: Lock, code: int, mask: SignalMask, how: str, detail: str | int | None) -> int:
    """End the hold, and finish that even when signals arrive. The second one gives up on an etcd that is away."""
    settings = request.settings
    second = interrupt_on_signals(2)
    mask.restore()
    name, token = lock.name, lock.token
    if detail is None and lock.stays:
        how = "left held, as it was found:"
    if code == LOST:
        lock.release_timeout = AFTER_LOSS
    try:
        if isinstance(detail, str):
            lock.hold(detail, second)
        elif detail is not None:
            lock.cool(detail, second)
        else:
            lock.release(second)
    except LockLost as error:
        if code == LOST:
            return code
        lost = fail(error, json=settings["json"], to_stderr=True)
        return code if code == NOT_STARTED else lost  # what cannot be killed is the worse of the two
    except DistlockError as error:
        end = f"When etcd is back: distlock --unlock {named(name)} --token={token}"
        if settings["ttl"] is not None:
            end = f"Its lease ends it within {settings['ttl']}s"
        what = "may still be locked" if detail is None else "could not be left taken"
        error.message = f"{name} {what}: {error.message}. {end}"
        failed = fail(error, json=settings["json"], to_stderr=True)
        return code or failed
    if settings["verbose"]:
        say(f"{how} {name}")
    return code
