"""The operations: all that a call of distlock does instead of running a command."""

from __future__ import annotations

import os

from distlock_core.cli.acquire import acquire, acquire_bound, lock_for, realm
from distlock_core.cli.command_line import Request
from distlock_core.cli.option_rules import UsageError
from distlock_core.cli.outcome import OK, not_done, out, say
from distlock_core.errors import DistlockError, LockLost
from distlock_core.model.keys import Keys
from distlock_core.process import nesting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def carry_out(request: Request) -> int:
    """Carry out an operation, report an error in one line, and return the exit code."""
    try:
        return OPERATIONS[request.operation](request)
    except DistlockError as error:
        return not_done(error, request.settings, to_stderr=False)


def _run(request: Request) -> int:
    """Only of a dry run: a command is run by `cli/run.py`."""
    from distlock_core.cli.planning import plan_acquisition

    return plan_acquisition(request)


def _lock(request: Request) -> int:
    if request.dry_run:
        return _run(request)
    if request.settings.on_acquired is not None and request.hooks is None:
        from distlock_core.cli.hooked import with_hooks

        return with_hooks(request, ["acquired"], _lock)
    if request.settings.while_pid is not None:
        holders = acquire_bound(request)
        if request.hooks is not None:
            request.hooks.acquired(holders)
    else:
        lock = lock_for(request)
        acquire(request, lock)
        holders = lock.holders
        if request.hooks is not None:
            request.hooks.acquired_by(lock)
    if request.settings.json:
        from distlock_core.cli.json_output import as_json, locks_json
        from distlock_core.model.state import LockState

        # The hold as acquired, not read again: if etcd is away now, this is no failure.
        states = [LockState(holder.lock, (holder,), 0) for holder in holders]
        return out(as_json({"locks": [lock for state in states for lock in locks_json(state)]}))
    return OK


def _list(request: Request) -> int:
    from distlock_core.cli.states import list_all

    return list_all(request)


def _show(request: Request) -> int:
    from distlock_core.cli.states import show

    return show(request)


def _explain(request: Request) -> int:
    from distlock_core.cli.explain import explain

    return explain(request)


def _get(request: Request) -> int:
    from distlock_core.cli.states import get

    return get(request)


def _unlock(request: Request) -> int:
    if request.dry_run:
        from distlock_core.cli.planning import plan_unlock

        return plan_unlock(request)
    from distlock_core.cli.unlock import unlock

    if request.settings.on_released is None:
        return unlock(request)
    from distlock_core.cli.hooked import with_hooks

    return with_hooks(request, ["released"], unlock)


def _break(request: Request) -> int:
    from distlock_core.cli.breaking import break_hold

    return break_hold(request)


def _watch(request: Request) -> int:
    from distlock_core.cli.watch import watch

    return watch(request)


def _wait(request: Request) -> int:
    from distlock_core.cli.wait import wait

    return wait(request)


def _freeze(request: Request) -> int:
    if request.dry_run:
        from distlock_core.cli.planning import plan_freeze

        return plan_freeze(request)
    from distlock_core.cli.freeze import freeze

    return freeze(request)


def _thaw(request: Request) -> int:
    from distlock_core.cli.freeze import thaw

    return thaw(request)


def _prune(request: Request) -> int:
    from distlock_core.cli.prune import prune

    return prune(request)


def _history(request: Request) -> int:
    from distlock_core.cli.history import history

    return history(request)


def _metrics(request: Request) -> int:
    from distlock_core.cli.metrics import metrics

    return metrics(request)


def _doctor(request: Request) -> int:
    from distlock_core.cli.doctor import doctor

    return doctor(request)


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
        from distlock_core.cli.json_output import as_json, holder_json

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
        from distlock_core.cli.json_output import as_json, one_or_all

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
        which = f"the token of {name}" if name != request.settings.lockname else "a token"
        raise UsageError(
            f"--verify needs {which}: give --token=N, or run it inside the command, which has it in its environment"
        )
    return token


def _help(_: Request) -> int:
    from distlock_core.cli.help import HELP

    return out(HELP.rstrip())


def _version(_: Request) -> int:
    from distlock_core import __version__

    return out(f"distlock {__version__}")


OPERATIONS: dict[str, Callable[[Request], int]] = {
    "list": _list,
    "show": _show,
    "explain": _explain,
    "get": _get,
    "watch": _watch,
    "wait": _wait,
    "update": _update,
    "verify": _verify,
    "freeze": _freeze,
    "thaw": _thaw,
    "prune": _prune,
    "policy": _policy,
    "history": _history,
    "metrics": _metrics,
    "doctor": _doctor,
    "run": _run,
    "lock": _lock,
    "unlock": _unlock,
    "break": _break,
    "help": _help,
    "version": _version,
}
