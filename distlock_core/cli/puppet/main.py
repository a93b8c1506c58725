"""distlock-puppet: a lock for one command of Puppet, or for a whole run.

A whole run's lock is bound to the process of the run. It is acquired by prerun_command and released by
postrun_command. If that does not run (SIGKILL), a keeper releases the lock when the run and its descendants have ended.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from distlock_core.adapters import acquire, check, release
from distlock_core.adapters.run_holds import bound_to
from distlock_core.adapters.settings import LOCK_NAMES, read_settings
from distlock_core.base.text import printable
from distlock_core.cli.command_line import Request, advise_with
from distlock_core.cli.outcome import FAILED, OK, fail, out, warn
from distlock_core.cli.puppet import run as puppet_run
from distlock_core.cli.puppet.arguments import HELP, Call, parse, wants_help
from distlock_core.connection import lock_of, realm_of
from distlock_core.errors import (
    Cancelled,
    ConfigError,
    DistlockError,
    Frozen,
    LimitConflict,
    LockBusy,
    LockNotFound,
    NotHolder,
)
from distlock_core.keeper.pid_keeper import SUCCEEDED
from distlock_core.lock.others_holds import mark
from distlock_core.lock.preview import preview_of_all
from distlock_core.model.record import HELD
from distlock_core.model.wording import are, are_held_by, listed, taken
from distlock_core.process.identity import hostname, start_time, trace_of
from distlock_core.process.nesting import held_around
from distlock_core.settings.readers import BETWEEN_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

    from distlock_core.cli.puppet.run import Run
    from distlock_core.cli.run import NewLock
    from distlock_core.model.state import Holder
    from distlock_core.settings.options import Settings

MINE, FREE, OTHERS, UNKNOWN = 0, 1, 2, 3  # the exit codes of `check`
LONGEST_LOOK = 10.0  # seconds that a run waits for its keeper to scan the run's descendants
OWNER = "puppet:"
OUTCOME, DONE = "DISTLOCK_PUPPET_RUN", "done"  # how the run has gone, from the module
RELEASE = "release"
# distlock-puppet enters no hold by its token.
WORDS = {"enter": "To release it anyway: distlock --unlock --lock-name={lock} --token={token}{realm}"}


def main() -> NoReturn:
    """The console script."""
    from distlock_core.cli.program import as_a_program

    as_a_program(lambda: run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Carry out the arguments, report the outcome in one line, and return the exit code."""
    if wants_help(words):
        return out(HELP.rstrip())
    if words[:1] == ["resource"]:
        from distlock_core.cli.puppet import resource

        return resource.run()
    if words[:1] == ["task"]:
        from distlock_core.cli.puppet import task

        return task.run(words[1:])
    failed = UNKNOWN if words[:1] == ["check"] else FAILED
    try:
        call = parse(words, os.environ)
        advise_with(
            {key: value for key, value in call.arguments.items() if value != "" or key == "config"}, words=WORDS
        )
        operations = {"exec": _exec, "acquire": _acquire, "release": _release, "check": _check, "policy": _policy}
        return operations[call.operation](call)
    except DistlockError as error:
        code = fail(error, json=False, to_stderr=True)
        return code if isinstance(error, Cancelled) else failed
    except Exception as error:  # noqa: BLE001 - Python's own exit code, 1, would mean to `unless` that the lock is free
        fail(DistlockError(f"{type(error).__name__}: {error}"), json=False, to_stderr=True)
        return failed


# The operations.


def _exec(call: Call) -> int:
    from distlock_core.cli.run import run as run_command

    around = puppet_run.find()
    settings = _settings(call, call.certname or _certname(around))
    started = None if around is None else start_time(around.pid)
    process = None if around is None or started is None else (around.pid, started)
    request = Request("run", settings, call.command, limit=call.limit, waits_for=process, tells_wait=True)
    return run_command(request, _new_lock(settings, around))


def _acquire(call: Call) -> int:
    from distlock_core.cli.acquire import cancelled, until
    from distlock_core.cli.signals import interrupt_on_signals

    around = _run_around()
    name = listed(call.names)
    certname, noop = call.certname or around.certname, False if call.noop_runs else around.noop
    if noop is None or not (certname or noop):
        asked, configured = around.ask()
        certname, noop = certname or asked, configured if noop is None else noop
    if noop:
        return out(f"{name} is not taken: this is a noop run")
    settings = _settings(call, certname)
    interrupt = interrupt_on_signals()
    started = start_time(around.pid)
    if started is None:
        raise cancelled(interrupt)
    try:
        cancel = until(interrupt, (around.pid, started))
        found = acquire.take(
            settings,
            run=around.pid,
            bound=True,
            children=True,
            cancel=cancel,
            on_failure=call.arguments.get("on_failure", RELEASE),
        )
    except Cancelled:
        raise cancelled(interrupt) from None
    story = "" if found.waited is None else f", {found.waited}"
    if story:
        # Puppet does not show the output of a prerun_command that succeeds.
        _to_syslog(f"{are_held_by(found.holders)}{story}")
    return out(f"{are_held_by(found.holders)}{story if found.changed else ', as before this run'}")


def _release(call: Call) -> int:
    around = _run_around()
    settings = _settings(call, "release")
    states = realm_of(settings).show_all(call.names)
    holders = [holder for state in states for holder in [bound_to(around.pid, state)] if holder is not None]
    if not holders:
        it = "it" if len(call.names) == 1 else "them"
        now = "; ".join(map(taken, states))
        return out(f"{listed(call.names)}: nothing to release, this run has not taken {it}; {now}")
    names = [holder.lock for holder in holders]
    keeper, several = holders[0].keeper, len(names) > 1
    on_failure = call.arguments.get("on_failure", RELEASE)  # not from file and environment, which are about commands
    if on_failure != RELEASE and os.environ.get(OUTCOME) != DONE:
        return _end_failed(settings, holders, around)
    left = _left_running(around, keeper)
    if left:
        # The run lives until this process ends, so the keeper can still scan them, and waits for their end.
        _wait_for_a_look(keeper)
        for holder in holders if on_failure != RELEASE else ():
            mark(realm_of(settings), holder, {SUCCEEDED: True})
        pids, stay = ", ".join(map(str, sorted(left))), "stay" if several else "stays"
        return out(f"{listed(names)} {stay} taken until process {pids}, which this run has started, has ended")
    settings = settings._replace(lockname=BETWEEN_NAMES.join(names), id=holders[0].owner)
    release.release(settings, run=around.pid, token=holders[0].token)
    return out(f"{are(names)} released")


def _end_failed(settings: Settings, holders: Sequence[Holder], around: Run) -> int:
    """Keep or freeze the locks of a run that has failed, or that has not said how it has gone."""
    how = os.environ.get(OUTCOME) or "nobody has seen how it has gone: the catalog needs the class distlock::run_lock"
    given = holders[0].reason
    reason = f"Puppet's run on {hostname()}: {how}" + (f" ({given})" if given else "")
    owner = holders[0].owner or settings.id
    release.end_failed(settings._replace(id=owner), reason, run=around.pid, holders=holders)
    what = "frozen" if settings.on_failure == "freeze" else "left taken"
    line = f"{are([holder.lock for holder in holders])} {what} for a person to look at: {printable(reason)}"
    _to_syslog(line)
    return out(line)


def _policy(call: Call) -> int:
    from distlock_core.adapters import policy
    from distlock_core.cli.option_rules import UsageError
    from distlock_core.model.policy import FIELDS
    from distlock_core.model.policy_change import difference

    settings = _settings(call, call.certname or _certname(puppet_run.find()))
    fields = {field: call.arguments.get(field) for field in FIELDS}
    if not call.absent:
        change = policy.set_exactly(settings, fields, call.arguments.get("reason"), dry_run=call.dry_run)
    elif any(fields.values()):
        raise UsageError("--absent removes the whole policy: leave out --slots, --cooldown, --window and --expect")
    else:
        change = policy.remove(settings, dry_run=call.dry_run)
    code = out(f"{listed(call.names)}: {difference(change, dry_run=call.dry_run)}")
    return FAILED if call.dry_run and change.changed else code


def _to_syslog(line: str) -> None:
    import syslog

    syslog.openlog("distlock-puppet", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_NOTICE, printable(line))


def _wait_for_a_look(keeper: int | None) -> None:
    """Return when the keeper has certainly scanned once more. On a busy machine it may not run for seconds."""
    from distlock_core.base.deadline import Patience
    from distlock_core.process.table import sleeps

    patience = Patience.lasting(LONGEST_LOOK)
    before = sleeps(keeper or 0)
    while before is not None and not patience.over():
        patience.pause(0.1)
        slept = sleeps(keeper or 0)
        # If awake, it may have scanned already; a signal that arrives as it falls asleep counts for the next scan.
        if slept is None or slept >= before + 3:
            return


def _check(call: Call) -> int:
    around = puppet_run.find()
    settings = _settings(call, call.certname or _certname(around))
    states = realm_of(settings).show_all(call.names)
    taker = None if around is None else trace_of(around.pid)
    # A lock of another run of this node counts as another's.
    mine = all(
        any(holder.owner == settings.id and holder.record.state == HELD for holder in state.holders) for state in states
    )
    is_free = all(not state.holders and state.frozen is None for state in states)
    code = MINE if mine and _holds(settings, taker) else FREE if is_free else OTHERS
    shown = [state if state.holders == () else state._replace(freezes=()) for state in states]
    said = out("; ".join(map(taken, shown)))
    return UNKNOWN if said != OK else code


def _holds(settings: Settings, taker: Mapping[str, Any] | None) -> bool:
    try:
        check.check(settings, taker=taker)
    except (LockNotFound, NotHolder):
        return False
    return True


# Shared by the operations.


def _settings(call: Call, certname: str) -> Settings:
    arguments: dict[str, object] = {
        key: value for key, value in call.arguments.items() if value != "" or key == "config"
    }
    if len(call.names) > 1:
        del arguments["lockname"]
        arguments[LOCK_NAMES] = call.names
    settings = read_settings(arguments, f"{OWNER}{certname}")._replace(json=False, node=False, while_pid=None)
    if not settings.quiet:
        warn(settings.warnings, json=False)
    return settings


def _certname(around: Run | None) -> str:
    around = around or puppet_run.Run(0)
    return around.certname or around.ask()[0]


def _run_around() -> Run:
    around = puppet_run.find()
    if around is None:
        raise ConfigError(
            "no run of Puppet has started this process, so there is nothing to bind the lock to. "
            "For another process: distlock --lock --while-pid=PID"
        )
    return around


def _new_lock(settings: Settings, around: Run | None) -> NewLock:
    """Make the lock for a command; inside of a run that holds it already, it is entered again."""
    realm = realm_of(settings)
    inside = held_around(os.environ)

    if around is not None:
        try:
            preview_of_all(lock_of(realm, settings, inside=inside))
        except (LockBusy, Frozen, LimitConflict) as error:
            for state in error.states:
                own = bound_to(around.pid, state, settings.id)
                if own is not None:
                    inside[own.key] = own.token
    return lambda details: lock_of(realm, settings, inside=inside, details=details)


def _left_running(around: Run, keeper: int | None) -> set[int]:
    """Pids of the run's living descendants, without this process and its ancestors up to the run.

    The keeper knows the orphans among them, such as the children of a command that Puppet has ended.
    """
    from distlock_core.process.table import children, parent_of
    from distlock_core.process.while_alive import awaited_by

    me, chain = os.getpid(), {around.pid}
    while me > 0 and me != around.pid:
        chain.add(me)
        me = parent_of(me) or 0
    return ({pid for pid, _started in children(around.pid)} | awaited_by(keeper or 0)) - chain
