"""The default operation: run a command under the lock."""

from __future__ import annotations

import os

from distlock_core.base.deadline import FOREVER
from distlock_core.base.value import Value
from distlock_core.cli import acquire
from distlock_core.cli.command_line import Request
from distlock_core.cli.outcome import FAILED, LOST, NO_LIFE, NOT_STARTED, OK, OVERDUE, fail, not_done, say, tell, warn
from distlock_core.cli.signals import interrupt_on_signals
from distlock_core.command import end as causes
from distlock_core.command.end import CommandEnd
from distlock_core.command.end_conditions import EndConditions
from distlock_core.command.equipment import Equipment
from distlock_core.command.signal_mask import SignalMask, name_of
from distlock_core.command.supervisor import Supervisor
from distlock_core.errors import Cancelled, DistlockError, Frozen, LockLost, NotStarted
from distlock_core.hints import UNLOCK_LATER, Hint
from distlock_core.lock.lock import hold_of
from distlock_core.model.ttl import DEFAULT_TTL
from distlock_core.process import nesting
from distlock_core.process.identity import hostname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from distlock_core.base.deadline import Interrupt
    from distlock_core.cli.work import WorkCheck
    from distlock_core.command.heartbeat import Heartbeat
    from distlock_core.command.prefork import Prefork
    from distlock_core.lock.lock import Lock

    NewLock = Callable[[Mapping[str, Any]], Lock]

AFTER_LOSS = 2.0  # seconds that cleaning up after a loss may take
LONGEST_REASON = 500  # characters of a command in a reason
EVENTS = ("acquired", "lost", "released")  # those with a hook


def run(request: Request, new_lock: NewLock | None = None) -> int:
    """Acquire, run the command, release. Return the exit code. `new_lock` makes the lock, instead of the settings.

    All that is needed while the lock is held is loaded before the claim, and no error after it leaves the lock or the
    command without supervision.
    """
    settings = request.settings
    if settings.has_hooks and request.hooks is None:
        from distlock_core.cli.hooked import with_hooks

        try:
            return with_hooks(request, EVENTS, lambda hooked: run(hooked, new_lock))
        except DistlockError as error:
            return not_done(error, settings, to_stderr=True)
    if settings.only_if is None and settings.unless is None:
        return _run(request, new_lock)
    from distlock_core.cli.work import WorkCheck

    work = WorkCheck(request)
    code = work.code_before_lock()
    return _run(request, new_lock, work) if code is None else code


def _run(request: Request, new_lock: NewLock | None, work: WorkCheck | None = None) -> int:
    settings = request.settings
    equipment: Equipment | None = None
    lock: Lock | None = None
    try:
        equipment = _equip(request)
        details = {"command": {} if equipment.prefork is None else equipment.prefork.trace}
        lock = acquire.lock_for(request, details) if new_lock is None else new_lock(details)
        lock.prepare()
        interrupt = acquire.acquire(request, lock, None if work is None else work.interrupt)
    except DistlockError as error:
        if equipment is not None:
            equipment.close()
        return not_done(error, settings, to_stderr=True)
    except Exception as error:  # noqa: BLE001 - any error (no memory, for example) is reported in one line
        if equipment is not None:
            equipment.close()
        if lock is not None and lock.held:
            return _not_run(request, lock, error, SignalMask())
        failed = DistlockError(f"the lock was not taken: {type(error).__name__}: {error}")
        return fail(failed, json=settings.json, to_stderr=True)
    code = None if work is None else work.code_under_lock(lock)
    if code is not None:
        equipment.close()
        return _release(request, lock, code, SignalMask())
    mask = SignalMask(equipment.pending)
    try:
        if interrupt.is_set():
            raise acquire.cancelled(interrupt)
        ended = _supervise(request, lock, mask, equipment)
    except (NotStarted, Cancelled) as error:
        return _release(request, lock, fail(error, json=settings.json, to_stderr=True), mask)
    except Exception as error:  # noqa: BLE001 - on any error the lock is released, and no command started
        return _not_run(request, lock, error, mask)
    finally:
        equipment.close()
    if ended.signal is not None and settings.verbose:
        say(f"the command was ended by {name_of(ended.signal)}")
    return _finish(request, lock, ended, mask)


def _not_run(request: Request, lock: Lock, error: Exception, mask: SignalMask) -> int:
    what = f"{lock.name}: the command was not started: {type(error).__name__}: {error}"
    return _release(request, lock, fail(NotStarted(what), json=request.settings.json, to_stderr=True), mask)


def _equip(request: Request) -> Equipment:
    """Prepare all that supervision needs later. Raises `DistlockError`."""
    settings = request.settings
    if settings.on_failure == "freeze":
        from distlock_core.lock import freeze  # noqa: F401 - loaded while no lock is held
    if settings.gate is not None:
        from distlock_core.cli import gate_after  # noqa: F401 - as above
    equipment = Equipment(
        ends_trees=_ends_trees(request), prefork=lambda: _prefork(request), heartbeat=lambda: _heartbeat(request)
    )
    if equipment.warning and not settings.quiet:
        warn([equipment.warning], json=settings.json)
    return equipment


def _ends_trees(request: Request) -> bool:
    settings = request.settings
    by_lock = settings.ttl is not None or settings.kills_on_loss
    by_itself = settings.heartbeat is not None or settings.node or request.limit != FOREVER
    return by_lock or by_itself or settings.wait_for == "tree"


def _prefork(request: Request) -> Prefork | None:
    """The command's process, forked before the claim, if the lock may be taken over later: the record names it.

    None under a lease or with a heartbeat: the command is then started in another way, and ends with distlock or with
    its lock.
    """
    settings = request.settings
    if settings.id is None or settings.ttl is not None or settings.heartbeat is not None or settings.node:
        return None
    from distlock_core.command.prefork import Prefork

    return Prefork(request.command)


def _supervise(request: Request, lock: Lock, mask: SignalMask, equipment: Equipment) -> CommandEnd:
    settings = request.settings
    conditions = EndConditions(
        lock.session,
        settings.kills_on_loss,
        settings.time_to_end,
        lambda cause, line: _tell(request, cause, f"{lock.name}: {line}"),
        equipment.reporter,
        equipment.heartbeat,
        request.limit,
        settings.wait_for == "tree",
        lock.lease is not None or settings.wait_for == "tree",
        None if request.hooks is None else request.hooks.lost,
    )
    command = ["node", *request.command] if settings.node else request.command
    environ = nesting.for_command(os.environ, lock.holders, lock.lease)
    if request.hooks is not None:
        request.hooks.acquired_by(lock)
    return Supervisor(command, environ, mask, conditions, equipment.prefork).run()


def _tell(request: Request, cause: str, line: str) -> None:
    if not request.settings.json:
        say(line)
        return
    from distlock_core.cli.json_output import as_json

    if cause == causes.REFUSED:
        warn([line], json=True)
        return
    kind = {causes.LOST: "lost", causes.HUNG: "no_life", causes.BROKEN: "error"}.get(cause, cause)
    tell(as_json({"error": {"kind": kind, "message": line}}))


def _heartbeat(request: Request) -> Heartbeat | None:
    settings = request.settings
    limit = settings.heartbeat
    if settings.node:
        from distlock_core.command.heartbeat import NodePings

        limit = limit or float(settings.ttl or DEFAULT_TTL)
        return NodePings(min(settings.refresh or limit / 3, limit), limit)
    if limit is None:
        return None
    from distlock_core.command.heartbeat import Watchdog

    return Watchdog(limit, os.environ.get("NOTIFY_SOCKET", ""))


def _finish(request: Request, lock: Lock, ended: CommandEnd, mask: SignalMask) -> int:
    """Release the lock, or keep or cool it, depending on the command's end."""
    settings = request.settings
    if ended.unkillable:
        pids = ", ".join(str(pid) if pid else "one that changes its pid all the time" for pid in ended.unkillable)
        kept = "if it is still there, " if ended.cause == causes.LOST else ""
        say(f"{lock.name}: cannot kill process {pids}: {kept}the lock is left taken, so that nobody else goes on")
        why = _because(request, f"process {pids} of {_shown(request)} could not be killed")
        code = _end_hold(request, lock, NOT_STARTED, mask, _kept(why))
        if settings.on_failure == "freeze":
            _freeze_too(request, lock, why)
        return code
    by_cause = {causes.LOST: LOST, causes.HUNG: NO_LIFE, causes.OVERDUE: OVERDUE, causes.BROKEN: NOT_STARTED}
    code = by_cause.get(ended.cause, ended.exit_code)
    if ended.exit_code != OK or code not in (OK, LOST):
        hows = {
            causes.LOST: f"lost the lock, and ended with {ended.exit_code},",
            causes.HUNG: "showed no life",
            causes.OVERDUE: "took too long",
            causes.BROKEN: "could not be looked after",
        }
        how = hows.get(ended.cause, f"ended with {code}")
        why = _because(request, f"{_shown(request)} {how} on {hostname()}")
        if settings.on_failure == "freeze":
            return _end_hold(request, lock, code, mask, _frozen(why, code))
        if settings.on_failure == "keep" and ended.cause != causes.LOST:
            return _end_hold(request, lock, code, mask, _kept(why))
    if settings.gate is not None and "after" in settings.gate_at and ended.cause != causes.LOST:
        from distlock_core.cli.gate_after import wait_for_gate

        unsettled = wait_for_gate(request, lock, mask)
        if unsettled is not None:
            why = _because(request, f"not healthy after {_shown(request)} on {hostname()}: {unsettled.why}")
            code = code or unsettled.code
            ending = _frozen(why, code) if settings.on_failure == "freeze" else _kept(why)
            return _end_hold(request, lock, code, mask, ending)
    cooldown = hold_of(lock).cooldown or settings.cooldown  # the policy's comes first
    if code == OK and cooldown is not None and not hold_of(lock).stays:
        return _end_hold(request, lock, code, mask, _cooling(cooldown))
    return _release(request, lock, code, mask)


def _shown(request: Request) -> str:
    """The command as shown to others, without its arguments, which may be secret, unless they are to be recorded."""
    words = request.command if request.settings.record_arguments else [os.path.basename(request.command[0])]
    command = " ".join(words)
    command = command if len(command) <= LONGEST_REASON else command[:LONGEST_REASON] + "..."
    return command.encode("utf-8", "backslashreplace").decode()


def _because(request: Request, why: str) -> str:
    reason = request.settings.reason
    return f"{why} ({reason})" if reason else why


class _Ending(Value):
    """One way to end the hold: the call, what is reported when it is done, and if it fails."""

    call: Callable[[Lock, Interrupt | None], None]
    done: str
    failed: str
    outcome: str = ""  # for the hook of the release, "" if the lock is not released


def _kept(why: str) -> _Ending:
    return _Ending(
        lambda lock, cancel: lock.keep(why, cancel), "left taken for a person to look at:", "could not be left taken"
    )


def _frozen(why: str, code: int) -> _Ending:
    return _Ending(
        lambda lock, cancel: lock.freeze(why, cancel, exit_code=int(code)),
        "frozen for a person to look at:",
        "could not be frozen, and may still be locked",
        "frozen",
    )


def _cooling(seconds: int) -> _Ending:
    return _Ending(lambda lock, cancel: lock.cool(seconds, cancel), "cooling:", "could not be left taken", "cooling")


def _release(request: Request, lock: Lock, code: int, mask: SignalMask) -> int:
    done = "left held, as it was found:" if hold_of(lock).stays else "released"
    ending = _Ending(lambda lock, cancel: lock.release(cancel), done, "may still be locked", "released")
    return _end_hold(request, lock, code, mask, ending)


def _freeze_too(request: Request, lock: Lock, why: str) -> None:
    """Freeze a lock that has been left taken: with several slots, others could still go on."""
    for name in lock.names:
        try:
            acquire.realm(request).freeze(name, reason=why, owner=lock.owner)
        except Frozen:
            pass
        except DistlockError as error:
            error.message = f"{name} could not be frozen: {error.message}"
            fail(error, json=request.settings.json, to_stderr=True)


def _end_hold(request: Request, lock: Lock, code: int, mask: SignalMask, ending: _Ending) -> int:
    """End the hold, and finish that even if signals arrive. The second signal gives up on an etcd that is away."""
    settings = request.settings
    try:
        second = interrupt_on_signals(2)
    except OSError:
        second = None  # no descriptor is left for it: only the time limit ends the release
    mask.restore()
    name = lock.name
    if code == LOST:
        lock.release_timeout = AFTER_LOSS
    hints, end = [Hint(UNLOCK_LATER, lock=one, owner=lock.owner, token=token) for one, token in lock.tokens.items()], ""
    if settings.ttl is not None:
        hints, end = [], f". Its lease ends it within {settings.ttl}s"
    try:
        ending.call(lock, second)
    except LockLost as error:
        if request.hooks is not None:
            request.hooks.lost(error.message)
        if code == LOST:
            return code
        lost = fail(error, json=settings.json, to_stderr=True)
        return code if code == NOT_STARTED else lost  # a command that cannot be killed is worse than a loss
    except DistlockError as error:
        error.message = f"{name} {ending.failed}: {error.message}{end}"
        error.hints = [*error.hints, *hints]
        failed = fail(error, json=settings.json, to_stderr=True)
        return code or failed
    except Exception as error:  # noqa: BLE001 - any error is reported in one line
        message = f"{name} {ending.failed}: {type(error).__name__}: {error}{end}"
        fail(DistlockError(message, hints=hints), json=settings.json, to_stderr=True)
        return code or FAILED
    if settings.verbose:
        say(f"{ending.done} {name}")
    if request.hooks is not None and ending.outcome:
        request.hooks.released(ending.outcome, code)
    return code
