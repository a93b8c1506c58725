"""Loss: that a hold was lost, when, and why: as far as etcd or the clock shows."""

from __future__ import annotations

import time

from distlock_core.base.text import shortened
from distlock_core.base.value import Value
from distlock_core.errors import LockLost
from distlock_core.hints import see
from distlock_core.model.record import HoldEnd, Record, token_of
from distlock_core.model.wording import clock, listed, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from distlock_core.etcd.values import KeyValue


class Loss(Value):
    """The loss of a hold: `at` in Unix seconds, `why` in words. `orderly` if the same owner ended it."""

    why: str
    at: float
    orderly: bool = False


CANNOT_GO_ON = Loss("this process cannot monitor it any more: out of memory", 0.0)  # created while there is memory


def unconfirmed(seconds: float) -> Loss:
    """The lease's deadline has passed without a renewal."""
    return Loss(f"etcd has confirmed no renewal for {seconds:.3g}s", time.time())


def lease_gone() -> Loss:
    return Loss("its lease has expired or was revoked", time.time())


def key_deleted(name: str | None = None) -> Loss:
    """`name`, here and below: of the lock, if it is one of several that were held together."""
    return Loss(f"{'its key' if name is None else f'the key of {name}'} was deleted", time.time())


def replaced(found: KeyValue, token: int, name: str | None = None) -> Loss:
    """The key belongs to another hold than that with this token, or to a run that has taken this one over."""
    other = Record.parse(found.value)
    same = token_of(found) == token
    return Loss(f"{name or 'it'} is held by {owner_of(other.owner)} now", time.time(), same and other.explicit)


def ended(last: Sequence[KeyValue], token: int, name: str | None = None) -> Loss | None:
    """The end of the hold with this token according to the note on the lock's last hold; None if that was another."""
    note = HoldEnd.parse(last[0].value) if last else None
    if note is None or not note.how or note.token != token:
        return None
    when = f" at {clock(note.at)}" if note.at else ""
    why = f': "{shortened(note.why)}"' if note.why else ""
    return Loss(f"{name or 'it'} was {note.how} by {owner_of(note.by)}{when}{why}", time.time(), note.how == "released")


def lost_error(names: Sequence[str], loss: Loss | None) -> LockLost:
    """The error for the loss of these locks. `loss`: its reason, if it is known."""
    if loss is not None:
        why = loss.why
    elif len(names) == 1:
        why = "its key was deleted, or belongs to another hold"
    else:
        why = "a key was deleted, or belongs to another hold"
    verb = "was" if len(names) == 1 else "were"
    return LockLost(f"{listed(names)} {verb} lost: {why}", hints=list(map(see, names)))
