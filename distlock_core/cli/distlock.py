"""distlock: run a command under a lock; lock, unlock, list, show, get, watch, update, verify, freeze, thaw, prune."""

from __future__ import annotations

import os
import sys

from distlock_core.base import warn_once
from distlock_core.cli.acquire import acquire, acquire_bound, lock_for, realm
from distlock_core.cli.arguments import Request, UsageError, error_form, parse
from distlock_core.cli.outcome import OK, fail, out, say, warn
from distlock_core.cli.program import as_a_program
from distlock_core.errors import DistlockError, LockLost
from distlock_core.model.keys import Keys
from distlock_core.process import nesting
from distlock_core.settings.load import unknown_variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def main() -> NoReturn:
    """The console script."""
    as_a_program(lambda: run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Carry out the arguments, report an error in one line, and return the exit code."""
    try:
        request = parse(arguments)
    except DistlockError as error:
        json, has_command = error_form(arguments, os.environ)
        warn(unknown_variables(os.environ), json=json)  # a misspelt one may be the missing setting
        return fail(error, json=json, to_stderr=has_command)
    if request.settings.warnings and not request.settings.quiet:
        warn(request.settings.warnings, json=request.settings.json)
    warn_once.tell = lambda line: _warn(request, line)
    if request.operation == "run":
        from distlock_core.cli.run import run as run_command

        return run_command(request)
    try:
        return {
            "list": _list,
            "show": _show,
            "get": _get,
            "watch": _watch,
            "update": _update,
            "verify": _verify,
            "freeze": _freeze,
            "thaw": _thaw,
            "prune": _prune,
            "policy": _policy,
            "lock": _lock,
            "unlock": _unlock,
            "help": _help,
            "version": _version,
        }[request.operation](request)
    except DistlockError as error:
        settings = request.settings
        busy, quiet = settings.busy_exit_code, settings.quiet
        return fail(error, json=settings.json, to_stderr=False, busy=busy, quiet=quiet)


# The operations.


def _lock(request: Request) -> int:
    if request.settings.while_pid is not None:
        holders = acquire_bound(request)
    else:
        lock = lock_for(request)
        acquire(request, lock)
        holders = lock.holders
    if request.settings.json:
        from distlock_core.cli.render import as_json, locks_json
        from distlock_core.model.state import LockState

        # The hold as acquired, not read again: if etcd is away now, this is no failure.
        states = [LockState(holder.lock, (holder,), 0) for holder in holders]
        return out(as_json({"locks": [lock for state in states for lock in locks_json(state)]}))
    return OK


def _unlock(request: Request) -> int:
    from distlock_core.cli.signals import interrupt_on_signals

    settings = request.settings
    owner = settings.id
    if settings.gate is not None:
        _settle(request)
    second = interrupt_on_signals(2)
    holders = realm(request).unlock_all(
        settings.lock_names,
        owner,
        token=request.token,
        force=request.force,
        cooldown=settings.cooldown,
        cancel=second,
    )
    if settings.json:
        from distlock_core.cli.render import as_json, holder_json, one_or_all

        return out(as_json({"unlocked": one_or_all([holder_json(holder) for holder in holders])}))
    from distlock_core.process.identity import hostname

    for holder in holders:
        broken = holder.owner != (owner or hostname())
        if settings.verbose or (broken and not settings.quiet):
            from distlock_core.model.wording import held_by

            say(f"unlocked {holder.lock}, which was held by {held_by(holder)}")
    return OK


def _settle(request: Request) -> None:
    """Wait for the gate before an unlock. Raises `NotSettled` if it is not green in time: the lock is kept."""
    from distlock_core.cli.acquire import cancelled
    from distlock_core.cli.signals import interrupt_on_signals
    from distlock_core.errors import Cancelled
    from distlock_core.model.record import ATTENDED
    from distlock_core.rollout.gate import gate_of, settle_step

    settings, found = request.settings, realm(request)
    if "after" not in settings.gate_at or request.force:
        return
    holder = found.to_unlock(settings.lockname, settings.id, token=request.token)
    interrupt = interrupt_on_signals()
    if holder.record.state in ATTENDED:
        try:
            settle_step(found, holder, gate_of(settings), interrupt)
        except Cancelled as error:
            ended = cancelled(interrupt)
            ended.message = f"{holder.lock}: {error.message}"
            raise ended from None


def _warn(request: Request, line: str) -> None:
    if not request.settings.quiet:
        warn([line], json=request.settings.json)


def _list(request: Request) -> int:
    from distlock_core.cli.render import as_json, locks_json, table
    from distlock_core.model.wording import are

    names, prefix = request.settings.lock_names, request.settings.prefix
    found = realm(request)
    if names:
        shown = found.show_all(names)
    else:
        import gc

        gc.disable()  # it would search all locks again and again, and find nothing
        shown = found.list(brief=not request.settings.json)
    states = [state for state in shown if state.holders or state.waiting or state.is_frozen_itself]
    whole = next((freeze for freeze in shown[0].freezes if freeze.lock is None), None) if shown else found.frozen()
    if request.settings.json:
        from distlock_core.cli.render import frozen_json

        locks = [lock for state in states for lock in locks_json(state)]
        return out(as_json({"locks": locks, "frozen": None if whole is None else frozen_json(whole)}))
    if not request.settings.quiet:
        from distlock_core.model.wording import is_frozen_by

        own = [freeze for state in states for freeze in state.freezes if freeze.lock is not None]
        for freeze in own if whole is None else [whole, *own]:
            say(is_frozen_by(freeze))
    if states:
        return out(table(states))
    if not request.settings.quiet:
        none = " and none of them is waited for" if len(names) > 1 else " and nobody waits for it"
        say(f"{are(names)} not locked under {prefix},{none}" if names else f"no locks under {prefix}")
    return OK


def _show(request: Request) -> int:
    from distlock_core.cli.render import as_json, card, locks_json

    settings = request.settings
    states = realm(request).show_all(settings.lock_names)
    if settings.json:
        return out(as_json({"locks": [lock for state in states for lock in locks_json(state)]}))
    return out("\n\n".join(card(state, settings.prefix, settings.state_dir) for state in states))


def _get(request: Request) -> int:
    name = request.settings.lockname
    value = realm(request).get(name)
    if request.settings.json:
        from distlock_core.cli.render import as_json

        return out(as_json({"got": {"lock": name, "value": value}}))
    if value and sys.stdout is not None and sys.stdout.isatty():
        from distlock_core.base.text import printable

        value = printable(value)  # escaped for a terminal; a program gets it unchanged
    return out(value or "")


def _watch(request: Request) -> int:
    from distlock_core.cli.watch import watch

    return watch(request)


def _freeze(request: Request) -> int:
    from distlock_core.cli.freeze import freeze

    return freeze(request)


def _thaw(request: Request) -> int:
    from distlock_core.cli.freeze import thaw

    return thaw(request)


def _prune(request: Request) -> int:
    from distlock_core.cli.prune import prune

    return prune(request)


def _policy(request: Request) -> int:
    from distlock_core.cli.policy import policy

    return policy(request)


def _update(request: Request) -> int:
    settings, token = request.settings, request.token
    if token is None:
        token = nesting.token_of(os.environ, Keys(settings.prefix, settings.lockname))
    reason = settings.reason if "reason" in settings.given else None  # None leaves it unchanged
    holder = realm(request).update(settings.lockname, settings.value, reason=reason, owner=settings.id, token=token)
    if settings.json:
        from distlock_core.cli.render import as_json, holder_json

        return out(as_json({"updated": holder_json(holder)}))
    if settings.verbose:
        say(f"updated {holder.lock}, token {holder.token}")
    return OK


def _verify(request: Request) -> int:
    settings = request.settings
    names = settings.lock_names
    tokens = [_token_to_verify(request, name) for name in names]
    states = realm(request).show_all(names)
    for state, token in zip(states, tokens):
        if all(holder.token != token for holder in state.holders):
            raise LockLost(f"token {token} does not hold {state.name}", state=state, states=states)
    if settings.json:
        from distlock_core.cli.render import as_json, one_or_all

        verified = [{"lock": name, "token": token} for name, token in zip(names, tokens)]
        return out(as_json({"verified": one_or_all(verified)}))
    if settings.verbose:
        for name, token in zip(names, tokens):
            say(f"token {token} holds {name}")
    return OK


def _token_to_verify(request: Request, name: str) -> int:
    """The token from the options, else the inherited one of this lock."""
    token = request.token
    if token is None:
        keys = Keys(request.settings.prefix, name)
        several = len(request.settings.lock_names) > 1
        token = nesting.token_of(os.environ, keys) if several else nesting.token(os.environ, keys)
    if token is None:
        which = f" of {name}" if name != request.settings.lockname else ""
        raise UsageError(
            f"--verify needs the token{which} to look for: --token=N, or DISTLOCK_TOKEN from the command's own"
        )
    return token


def _help(_: Request) -> int:
    from distlock_core.cli.help import HELP

    return out(HELP.rstrip())


def _version(_: Request) -> int:
    from distlock_core import __version__

    return out(f"distlock {__version__}")
