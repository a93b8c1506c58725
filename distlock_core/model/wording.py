"""Sentences about locks that errors, the command line and the adapters share.

Texts from etcd are escaped here, so that no reason can send control characters to a terminal.
"""

from __future__ import annotations

import time

from distlock_core.base.text import printable, shortened
from distlock_core.model.state import Holder, LockState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from distlock_core.model.freeze import Freeze
    from distlock_core.model.sign_of_life import SignOfLife

MOST_NAMED = 8  # holders that a message names


def duration(seconds: float) -> str:
    """A duration for people: `12s`, `4m12s`, `3h05m`, `2d07h`."""
    whole = max(0, int(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def clock(seconds: float, form: str = "%H:%M") -> str:
    """The local time of a Unix time: `12:03` if it is today, else with the date."""
    try:
        then, today = time.localtime(seconds), time.localtime()
        return time.strftime(form if then[:3] == today[:3] else f"%Y-%m-%d {form}", then)
    except (OverflowError, ValueError, OSError):
        return "an impossible time"


def listed(names: Sequence[str]) -> str:
    """Names of locks in one phrase: `rack-7, rack-8 and percona_prod`."""
    *first, last = map(printable, names)
    return f"{', '.join(first)} and {last}" if first else last


def are(names: Sequence[str]) -> str:
    """Names with their verb: `rack-7 is`, `rack-7 and percona_prod are`."""
    return f"{listed(names)} {'is' if len(names) == 1 else 'are'}"


def owner_of(owner: str | None) -> str:
    return "an unknown owner" if owner is None else shortened(owner)


def place_of(holder: Holder) -> str:
    """The place of a holder beside others: `slot 2`, or `shared`."""
    return "shared" if holder.is_shared else f"slot {holder.slot}"


def held_by(holder: Holder) -> str:
    """A holder in one phrase: `node-3 since 12:03 (4m12s): "Upgrade RPMs"`."""
    words = owner_of(holder.owner)
    if holder.slot or holder.is_shared:
        words += f" ({place_of(holder)})"
    if holder.record.state != "held":
        words += f" ({printable(holder.record.state)})"
    if holder.since is not None:
        at = time.time()
        late = f", OVERDUE: expected {duration(holder.expect or 0)}" if holder.is_overdue(at) else ""
        words += f" since {clock(holder.since)} ({duration(at - holder.since)}{late})"
    return words + (f': "{shortened(holder.reason)}"' if holder.reason else "")


def is_held_by(holder: Holder) -> str:
    """A hold in one phrase: `percona_prod is held by salt:m0 since 12:03 (4m12s): "Upgrade RPMs"`."""
    return f"{printable(holder.lock)} is held by {held_by(holder)}"


def are_held_by(holders: Sequence[Holder]) -> str:
    """Holds of several locks in one phrase."""
    return "; ".join(map(is_held_by, holders))


def tokens_of(holders: Sequence[Holder]) -> str:
    """The fencing tokens of several locks, which are the same if they were acquired together: `token 4711`."""
    numbers = dict.fromkeys(holder.token for holder in holders)
    return f"token{'' if len(numbers) == 1 else 's'} {' and '.join(map(str, numbers))}"


def owners_of(holders: Sequence[Holder]) -> str:
    """The owners of several locks in one phrase."""
    return " and ".join(dict.fromkeys(owner_of(holder.owner) for holder in holders))


def waiting(number: int) -> str:
    """The number of waiters in words: `2 are waiting`."""
    return f"{number} {'is' if number == 1 else 'are'} waiting"


def taken(state: LockState) -> str:
    """The holders of a lock and the number of its waiters, in one line."""
    name = printable(state.name)
    if state.freezes:
        return _frozen(state)
    if state.holders:
        who = " and by ".join(held_by(holder) for holder in state.holders[:MOST_NAMED])
        if len(state.holders) > MOST_NAMED:
            who += f" and {len(state.holders) - MOST_NAMED} more"
        return f"{name} is held by {who}" + (f"; {waiting(state.waiting)}" if state.waiting else "")
    if state.mutex_busy:
        return f"{name} is free, but a client of the Go original is inside the realm's mutex"
    return f"{name} is free" + (f", but {waiting(state.waiting)}" if state.waiting else "")


def in_queue(state: LockState, position: int, closed: object = None) -> str:
    """The same for a waiter: `percona_prod is held by node-3 since 12:03 (4m12s); position 2 of 4 in the queue`."""
    shut = "" if closed is None else f"; {closed}"
    return f"{taken(state._replace(waiting=0))}{shut}; {place(state, position)}"


def in_queues(places: Sequence[tuple[LockState, int]], closed: object = None) -> str:
    """The same for a waiter in the queues of several locks: the busy ones with their holders, then each place."""
    if len(places) == 1:
        ((state, position),) = places
        return in_queue(state, position, closed)
    busy = [state for state, position in places if state.holders or state.freezes or position > 1]
    words = [taken(state._replace(waiting=0)) for state in busy or [state for state, _ in places]]
    shut = [] if closed is None else [str(closed)]
    at = [f"{printable(state.name)}: {place(state, position)}" for state, position in places]
    return "; ".join([*words, *shut, *at])


def place(state: LockState, position: int) -> str:
    """A place in the queue, and when its turn is likely: `position 3 of 5 in the queue, about 4m each: likely 14:32`.

    Position 0 is outside the waiter's own window.
    """
    if not position:
        return "not in the queue"
    words = f"position {position} of {max(state.waiting, position, 1)} in the queue"
    if not state.holders:
        return words
    from distlock_core.model.forecast import forecast

    turn = forecast(state, position, time.time())
    return words if turn is None else f"{words}, about {turn.each_in_words} each: likely {clock(turn.at)}"


def sign_of_life(sign: SignOfLife) -> str:
    """A sign of life in one phrase: `last sign of life 12:03:40, 4s ago (one every 15s)`.

    The time is that of this machine's clock.
    """
    every = f"one every {duration(sign.every)}"
    if sign.silent is None or sign.at is None:
        return f"unknown: its key in etcd was deleted ({every})"
    at, ago = clock(sign.at, "%H:%M:%S"), duration(sign.silent)
    if sign.is_alive:
        return f"last sign of life {at}, {ago} ago ({every})"
    every += " is expected"
    if sign.is_alive is None:
        return f"unknown: no sign of life since {at}, {ago} ago, when etcd changed its leader ({every})"
    if sign.doubt == "expired":
        return f"SILENT for more than {ago} ({every})"
    if sign.doubt:
        return f"SILENT since {at}, {ago} ago, when etcd changed its leader, or for longer ({every})"
    return f"SILENT: last sign of life {at}, {ago} ago ({every})"


def frozen_by(freeze: Freeze) -> str:
    """A freeze in one phrase: `admin since 12:03 (4m12s), until 14:03 (1h55m left): "audit"`."""
    words = owner_of(freeze.by)
    if freeze.since is not None:
        words += f" since {clock(freeze.since)} ({duration(time.time() - freeze.since)})"
    if freeze.until is not None:
        left = freeze.until - time.time() if freeze.ttl_left is None else freeze.ttl_left
        words += f", until {clock(freeze.until)} ({f'{duration(left)} left' if left > 0 else 'ends any moment'})"
    return words + (f': "{shortened(freeze.reason)}"' if freeze.reason else "")


def is_frozen_by(freeze: Freeze) -> str:
    """The same with what is frozen: `the realm is frozen by admin since 12:03 (4m12s): "audit"`."""
    return f"{'the realm' if freeze.lock is None else printable(freeze.lock)} is frozen by {frozen_by(freeze)}"


def _frozen(state: LockState) -> str:
    """Who has frozen a lock, or its realm, and who holds it: holders are not affected by a freeze."""
    about = "" if state.freezes[0].lock is not None else f"{printable(state.name)}: "
    words = about + " and ".join(map(is_frozen_by, state.freezes))
    if state.holders:
        words += f"; held by {held_by(state.holders[0])}"
        if len(state.holders) > 1:
            words += f" and {len(state.holders) - 1} more"
    return words + (f"; {waiting(state.waiting)}" if state.waiting else "")
