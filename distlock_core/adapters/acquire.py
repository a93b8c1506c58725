"""Acquire a lock, or several together, for one step of Salt, Ansible or Puppet, with a dry run.

Each tool reads its arguments, calls `take()`, and reports the result. Every owner is explicit. Raises `DistlockError`.
"""

from __future__ import annotations

from distlock_core import connection
from distlock_core.adapters.run_holds import RunHolds, taker_of
from distlock_core.adapters.settings import explicit_owner, reaching, run_ttl
from distlock_core.base.deadline import Wait
from distlock_core.base.value import Value
from distlock_core.errors import (
    AcquireTimeout,
    Cancelled,
    Frozen,
    LockBusy,
)
from distlock_core.hints import see
from distlock_core.lock.preview import preview_of_all
from distlock_core.lock.spec import TAKEN_OVER
from distlock_core.lock.wait_story import Watcher
from distlock_core.model.wording import are_held_by, listed
from distlock_core.process.identity import trace_of
from distlock_core.settings.load import checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any

    from distlock_core.base.deadline import Cancel
    from distlock_core.keeper.bind import Binding
    from distlock_core.lock.acquire import Waiting
    from distlock_core.lock.lock import Lock
    from distlock_core.lock.realm import Realm
    from distlock_core.lock.reentry import Reentry
    from distlock_core.lock.wait_story import Waited
    from distlock_core.model.state import Holder, LockState
    from distlock_core.settings.options import Settings


class Taken(Value):
    """The result of `take()`: the hold of each lock (none in a dry run that would make one), and whether one is new.

    `before` has the owner's previous holds that were taken over from a dead run. `waits` is, in a dry run, the error
    that a wait would begin with; `waited` is the story of a real wait.
    """

    holders: tuple[Holder, ...]
    changed: bool
    before: tuple[Holder, ...] = ()
    waits: LockBusy | Frozen | None = None
    waited: Waited | None = None

    @property
    def holder(self) -> Holder | None:
        """The hold of one lock, None if it has none."""
        return self.holders[0] if self.holders else None


@reaching
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
    on_failure: str = "release",
) -> Taken:
    """Make sure that the settings' owner holds the lock. A hold that this run already has is left unchanged.

    Several locks are acquired together or not at all. Those that are free are acquired in the transaction that enters
    this owner's steps among the others; holds that end with this run do not go together with others.

    `run` is the process that represents this run: a hold bound to it belongs to this run, as does one of the owners
    `run_owners`, which ends with this run too. `taker` is the trace (from `trace_of()`, on that process's machine) of
    the process for which a step is taken; the default is `run`, else the parent of this process. A step of the same
    owner for another process that may be alive is entered only with its `token`.

    With `bound` the lock ends with `run` (and with all processes that have inherited the pipe `family`; with `children`
    also with all its descendants). Otherwise it is persistent, or with `unrenewed` expires after its ttl. A dry run
    raises whatever the real run would raise. `progress` is called while waiting, and may raise. With `on_failure`
    (`keep`, `freeze`) a run to which it is bound counts as failed if it ends without its release: see `end_failed()`.
    `realm` is the realm of the settings, if the caller has it open.
    """
    settings = _with_its_life(settings, run, bound=bound, unrenewed=unrenewed)
    binding = _binding(settings, family, children)._replace(on_failure=on_failure) if bound else None
    # A step may be entered again by the same owner; a lock bound to a run belongs to that run alone.
    taker = taker_of(taker, run)
    details = None if binding is None else {**trace_of(binding.pid), "taker": dict(taker)}
    realm = realm or connection.realm_of(settings)
    lock = connection.lock_of(realm, settings, step=binding is None, details=details, taker=taker, token=token)
    mine = RunHolds(explicit_owner(settings), run, run_owners, taker, exclusive=not settings.shared)
    waits, busy = None, None
    previews: tuple[tuple[Reentry | None, LockState], ...] = ()
    try:
        previews = preview_of_all(lock)
    except (LockBusy, Frozen) as error:
        found = mine.among_all(error.states)
        if not found and dry_run and Wait.of(settings.timeout).is_none:
            raise
        error.realm_settings = dict(settings.realm_arguments)
        waits, busy = error, error.state
    else:
        found = _shared_holds(settings, mine, previews)
    if found:
        return Taken(found, False)
    entries = [entry for entry, _ in previews]
    entered = [entry for entry in entries if entry is not None and entry.how != TAKEN_OVER]
    if entered and len(entered) == len(entries):
        if dry_run or not any(entry.adopts for entry in entered):
            return Taken(tuple(entry.holder for entry in entered), False)
        # The step's taker is gone: from now on the step is this run's, and no other run enters it.
        binding, plain = None, settings._replace(reason="", value=None, ttl=settings.ttl if unrenewed else None)
        lock = connection.lock_of(realm, plain, step=True, taker=taker, token=token)
    elif entered and bound:
        raise _stays(entered, lock)
    before = tuple(entry.holder for entry in entries if entry is not None and entry.how == TAKEN_OVER)
    if dry_run:
        return Taken((), True, before, waits)
    watcher = Watcher(progress, busy)
    try:
        lock.acquire(settings.timeout, cancel, mine.stop_needless_wait(watcher))
    except (LockBusy, Frozen, AcquireTimeout) as error:
        # Another process of this run may have acquired it meanwhile.
        found = mine.among_all(error.states)
        if not found:
            raise
        return Taken(found, False)
    _check_that_it_goes_on(lock, cancel)
    story = watcher.story()
    holders = _leave(lock, binding, settings, story)
    adopted = [entry.holder.token for entry in entered] == [holder.token for holder in holders]
    return Taken(holders, not adopted, before, waited=story)


def _with_its_life(settings: Settings, run: int | None, *, bound: bool, unrenewed: bool) -> Settings:
    """The settings with the ttl that fits the lifetime of the lock."""
    if bound:
        return checked(settings._replace(while_pid=run, ttl=settings.ttl or run_ttl()))
    return settings if unrenewed else settings._replace(ttl=None, refresh=None)


def _check_that_it_goes_on(lock: Lock, cancel: Cancel | None) -> None:
    """Raise `Cancelled`, with the lock released, if the caller was interrupted as it was acquired."""
    if cancel is not None and cancel.is_set():
        lock.release()
        raise Cancelled("interrupted")


def _shared_holds(
    settings: Settings, mine: RunHolds, previews: Sequence[tuple[Reentry | None, LockState]]
) -> tuple[Holder, ...]:
    """The shared holds that this run already has, although it could have others beside them."""
    if not settings.shared or any(entry is not None for entry, _ in previews):
        return ()
    return mine.among_all([state for _, state in previews])


def _stays(entered: Sequence[Reentry], lock: Lock) -> LockBusy:
    """The error for several locks that are to end with the run, some of which are steps that do not."""
    stay = listed([entry.holder.lock for entry in entered])
    return LockBusy(
        f"{are_held_by([entry.holder for entry in entered])}: this owner's own, until it is unlocked, while "
        f"{lock.name} are to end with this run: unlock {stay} first",
        hints=[see(entry.holder.lock) for entry in entered],
    )


def _leave(lock: Lock, binding: Binding | None, settings: Settings, story: Waited | None) -> tuple[Holder, ...]:
    """Leave a held lock as it is, or hand it to a keeper, which adds the story of the wait to the record."""
    if binding is None:
        from distlock_core.keeper.handover import part_with

        holders = lock.holders
        part_with(lock)
        return holders
    from distlock_core.keeper.bind import hand_to_keeper

    binding = binding._replace(waited=story and story.fields())
    return hand_to_keeper(lock, binding, connection.connect_arguments(settings))


def _binding(settings: Settings, family: int | None, children: bool) -> Binding:
    # Imported late: Ansible sends modules to the node as source, so each one that a task does not need saves time.
    from distlock_core.keeper.bind import Binding

    return Binding.of(settings, family)._replace(children=children)
