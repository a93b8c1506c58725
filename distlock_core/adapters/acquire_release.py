"""Acquire, release and check a lock for one step of Salt, Ansible or Puppet, with a dry run.

Each tool reads its arguments, calls one of these functions, and reports the result. Every owner is explicit. All raise
`DistlockError`.
"""

from __future__ import annotations

from distlock_core import connection
from distlock_core.adapters.run_holds import RunHolds, ends_with, taker_of
from distlock_core.adapters.settings import check_settles, explicit_owner, run_ttl
from distlock_core.base.deadline import Wait
from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.errors import (
    AcquireTimeout,
    Cancelled,
    DistlockError,
    Frozen,
    LockBusy,
    LockNotFound,
    NotHolder,
)
from distlock_core.hints import see
from distlock_core.lock.reentry import what_of_run
from distlock_core.lock.reentry_refusals import refuse_anothers_step
from distlock_core.lock.spec import TAKEN_OVER
from distlock_core.lock.status import breaks
from distlock_core.lock.wait_story import Watcher
from distlock_core.model.record import ATTENDED, COOLING, HELD
from distlock_core.model.wording import is_held_by, taken
from distlock_core.process.fate import GONE
from distlock_core.process.identity import trace_of
from distlock_core.settings.load import checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any, TypeVar

    Step = TypeVar("Step", bound=Callable[..., Any])

    from distlock_core.base.deadline import Cancel
    from distlock_core.keeper.bind import Binding
    from distlock_core.lock.acquire import Waiting
    from distlock_core.lock.lock import Lock
    from distlock_core.lock.realm import Realm
    from distlock_core.lock.wait_story import Waited
    from distlock_core.model.state import Holder
    from distlock_core.settings.options import Settings


def _reaching(function: Step) -> Step:
    """Decorator: errors of a step carry the settings needed to reach the same realm again."""
    from functools import wraps

    @wraps(function)
    def call(settings: Settings, *arguments: Any, **named: Any) -> Any:
        try:
            return function(settings, *arguments, **named)
        except DistlockError as error:
            error.realm_settings = dict(settings.realm_arguments)
            raise

    return call  # type: ignore[return-value]


class Taken(Value):
    """The result of `take()`: the hold (None in a dry run that would make one), and whether it is new.

    `before` is the owner's previous hold, taken over from a dead run. `waits` is, in a dry run, the error that a wait
    would begin with; `waited` is the story of a real wait.
    """

    holder: Holder | None
    changed: bool
    before: Holder | None = None
    waits: LockBusy | Frozen | None = None
    waited: Waited | None = None


@_reaching
def take(
    settings: Settings,
    *,
    run: int | None = None,
    taker: Mapping[str, Any] | None = None,
    token: int | None = None,
    bound: bool = False,
    family: int | None = None,
    children: bool = False,
    unrenewed: bool = False,
    run_owners: Collection[str] = (),
    dry_run: bool = False,
    cancel: Cancel | None = None,
    progress: Callable[[Waiting], None] | None = None,
    realm: Realm | None = None,
) -> Taken:
    """Make sure that the settings' owner holds the lock. A hold that this run already has is left unchanged.

    `run` is the process that represents this run: a hold bound to it belongs to this run, as does one of the owners
    `run_owners`, which ends with this run too. `taker` is the trace (from `trace_of()`, on that process's machine) of
    the process for which a step is taken; the default is `run`, else the parent of this process. A step of the same
    owner for another process that may be alive is entered only with its `token`.

    With `bound` the lock ends with `run` (and with all processes that have inherited the pipe `family`; with `children`
    also with all its descendants). Otherwise it is persistent, or with `unrenewed` expires after its ttl. A dry run
    raises whatever the real run would raise. `progress` is called while waiting, and may raise.
    `realm` is the realm of the settings, if the caller has it open.
    """
    if bound:
        settings = checked(settings._replace(while_pid=run, ttl=settings.ttl or run_ttl()))
    elif not unrenewed:
        settings = settings._replace(ttl=None, refresh=None)
    binding = _binding(settings, family, children) if bound else None
    # A step may be entered again by the same owner; a lock bound to a run belongs to that run alone.
    taker = taker_of(taker, run)
    details = None if binding is None else {**trace_of(binding.pid), "taker": dict(taker)}
    realm = realm or connection.realm_of(settings)
    lock = connection.lock_of(realm, settings, step=binding is None, details=details, taker=taker, token=token)
    mine = RunHolds(explicit_owner(settings), run, run_owners, taker)
    reentry, waits, busy = None, None, None
    try:
        reentry = lock.preview()
    except (LockBusy, Frozen) as error:
        found = mine.among(error.state)
        if found is not None:
            return Taken(found, False)
        if dry_run and Wait.of(settings.timeout).is_none:
            raise
        error.realm_settings = dict(settings.realm_arguments)
        waits, busy = error, error.state
    if reentry is not None and reentry.how != TAKEN_OVER:
        if dry_run or not reentry.adopts:
            return Taken(reentry.holder, False)
        # The step's taker is gone: from now on the step is this run's, and no other run enters it.
        binding, plain = None, settings._replace(reason="", value=None, ttl=settings.ttl if unrenewed else None)
        lock = connection.lock_of(realm, plain, step=True, taker=taker, token=token)
    before = reentry.holder if reentry is not None and reentry.how == TAKEN_OVER else None
    if dry_run:
        return Taken(None, True, before, waits)
    watcher = Watcher(progress, busy)
    try:
        lock.acquire(settings.timeout, cancel, mine.stop_needless_wait(watcher))
    except (LockBusy, Frozen, AcquireTimeout) as error:
        # Another process of this run may have acquired it meanwhile.
        found = mine.among(error.state)
        if found is None:
            raise
        return Taken(found, False)
    if cancel is not None and cancel.is_set():
        lock.release()
        raise Cancelled("interrupted")
    story = watcher.story()
    holder = _leave(lock, binding, settings, story)
    adopted = reentry is not None and reentry.adopts and reentry.holder.token == holder.token
    return Taken(holder, not adopted, before, waited=story)


def _leave(lock: Lock, binding: Binding | None, settings: Settings, story: Waited | None) -> Holder:
    """Leave a held lock as it is, or hand it to a keeper, which adds the story of the wait to the record."""
    if binding is None:
        from distlock_core.keeper.handover import part_with

        holder = lock.holder
        part_with(lock)
        return holder
    from distlock_core.keeper.bind import hand_to_keeper

    binding = binding._replace(waited=story and story.fields())
    (holder,) = hand_to_keeper(lock, binding, connection.connect_arguments(settings))
    return holder


@_reaching
def release(
    settings: Settings,
    *,
    run: int | None = None,
    taker: Mapping[str, Any] | None = None,
    token: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    realm: Realm | None = None,
    cancel: Cancel | None = None,
) -> Holder | None:
    """Make sure that the settings' owner does not hold the lock. Return the hold that was ended, None if it was free.

    Raises `NotHolder` for a step of another process than `taker` (as for `take()`) that may be alive, unless its
    `token` or `force` is given; and, if `run` or `taker` identifies this run, for a lock that ends with another run
    that may be alive. With a `cooldown` in the settings the lock stays taken for that time; a lock that already cools
    down is left alone. With a `gate` the owner's lock is released once that is green, and kept if it is not in time
    (raises `NotSettled`), unless `force` is given; `cancel` ends that wait. `realm` is the realm of the settings, if
    the caller has it open: its connection is reused.
    """
    name, owner, cooldown = settings.lockname, explicit_owner(settings), settings.cooldown
    check_settles(settings)
    found = realm or connection.realm_of(settings)
    try:
        mine = taker_of(taker, run)
        holder = found.to_unlock(name, owner, token=token, force=force, taker=mine)
        if not (token is not None or force or (run is None and taker is None)):
            _refuse_another_runs(holder, mine, settings)
        if holder.record.state == COOLING and cooldown is not None:
            return None
        if dry_run:
            return holder
        if settings.gate is not None and "after" in settings.gate_at and holder.owner == owner and not force:
            from distlock_core.rollout.gate import gate_of, settle_step

            if holder.record.state in ATTENDED:
                settle_step(found, holder, gate_of(settings), cancel)
        return found.end(holder, owner, cooldown=cooldown)
    except LockNotFound:
        return None


@_reaching
def check(settings: Settings, token: int | None = None, *, taker: Mapping[str, Any] | None = None) -> Holder:
    """Return the hold of the settings' owner, or the one with this `token`. Raises `LockNotFound`, `NotHolder`.

    With a `taker`, as for `take()`, a step of the same owner for another process that may be alive does not count, nor
    does a lock that ends with another run.
    """
    name, owner = settings.lockname, explicit_owner(settings)
    state = connection.realm_of(settings).show(name)
    for holder in state.holders:
        mine = holder.owner == owner if token is None else holder.token == token
        if mine and holder.record.state == HELD:
            if taker is not None and token is None:
                refuse_anothers_step(holder, taker, settings.state_dir)
                if not ends_with(holder, taker):
                    raise NotHolder(
                        f"{taken(state)}, bound to another run of this owner, not to this run",
                        state=state,
                        hints=[see(name)],
                    )
            return holder
    who = printable(owner) if token is None else f"token {token}"
    if state.holders:
        raise NotHolder(f"{taken(state)}, not by {who}", state=state, hints=[see(name)])
    raise LockNotFound(f"{printable(name)} is not locked, so not held by {who}", state=state)


def _refuse_another_runs(holder: Holder, taker: Mapping[str, Any], settings: Settings) -> None:
    if not ends_with(holder, taker) and what_of_run(holder, settings.state_dir)[0] != GONE:
        raise NotHolder(
            f"{is_held_by(holder)}, bound to another run of this owner, which may be running: left alone",
            hints=[breaks(holder), see(holder.lock)],
        )


def _binding(settings: Settings, family: int | None, children: bool) -> Binding:
    # Imported late: Ansible sends modules to the node as source, so each one that a task does not need saves time.
    from distlock_core.keeper.bind import Binding

    return Binding.of(settings, family)._replace(children=children)
