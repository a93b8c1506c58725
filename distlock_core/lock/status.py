"""Status: the state of a realm's locks, parsed from its keys, and the selection of one hold. Pure functions."""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.errors import LockNotFound, NotHolder
from distlock_core.hints import BREAK, CHOOSE_TOKEN, Hint, see
from distlock_core.model.freeze import Freeze, freezes_of
from distlock_core.model.keys import RESERVED, Keys, freeze_key, last_prefix, policy_prefix
from distlock_core.model.record import MAYBE_TAKEN_OVER, token_of
from distlock_core.model.records import parse_records
from distlock_core.model.state import Holder, LockState, Waiter, in_order
from distlock_core.model.wording import MOST_NAMED, taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from distlock_core.etcd.values import KeyValue


def name_of(key: bytes, prefix: str, mutex: str) -> str | None:
    """Name of the lock that a key belongs to, None for any other key."""
    try:
        name, separator, rest = key.decode()[len(prefix) :].partition("/")
    except UnicodeDecodeError:
        return None
    if not name or name.startswith(RESERVED) or name == mutex:
        return None
    return name if not separator or rest.startswith(("slot/", "shared/", "queue/")) or rest == "freeze" else None


def held_by(key: bytes, prefix: str, mutex: str) -> Keys | None:
    """The lock for the key of a hold, None for any other key."""
    name = name_of(key, prefix, mutex)
    keys = None if name is None else Keys(prefix, name, mutex)
    return keys if keys is not None and keys.is_held_by(key) else None


def frozen_by(key: bytes, prefix: str, mutex: str) -> str | None:
    """Name of the lock that a key freezes, "" for the freeze of the realm, None for any other key."""
    if key == freeze_key(prefix):
        return ""
    name = name_of(key, prefix, mutex) if key.endswith(b"/freeze") else None
    return name if name is not None and key == Keys(prefix, name, mutex).lock_freeze else None


def state_of(keys: Keys, found: Sequence[KeyValue]) -> LockState:
    """The state of one lock, from keys of its realm."""
    holders, queue = [], []
    last = policy = None
    freezes = []
    for kv in found:
        key = kv.key
        if keys.is_held_by(key):
            holders.append(Holder.parse(keys, kv))
        elif key.startswith(keys.queue):
            queue.append(kv)
        elif key == keys.last:
            last = kv
        elif key in (keys.freeze, keys.lock_freeze):
            freezes.append(kv)
        elif key == keys.policy:
            policy = kv
    queue.sort(key=keys.order)
    state = LockState(
        keys.name,
        in_order(holders),
        len(queue),
        tuple(Waiter.parse(kv, keys.place_of(kv.key)) for kv in queue),
        last.value if last else None,
        freezes_of(keys, freezes),
    )
    return state if policy is None else _under(state, policy)


def all_states(found: Sequence[KeyValue], prefix: str, mutex: str) -> list[LockState]:
    """The states of all locks that are held, waited for or frozen, sorted by name, from the keys of a realm."""
    shared: dict[bytes, KeyValue] = {}  # the freeze of the realm, notes and policies
    alone: dict[str, KeyValue] = {}  # the keys of holds without a slot's number
    groups: dict[str, list[KeyValue]] = {}  # of locks with other keys
    beginnings = (last_prefix(prefix), policy_prefix(prefix), freeze_key(prefix))
    slashes = prefix.count("/")
    for kv in found:
        key = kv.key
        if key.startswith(beginnings):
            shared[key] = kv
            continue
        name = name_of(key, prefix, mutex)
        if name is None:
            continue
        if key.count(b"/") == slashes:
            alone[name] = kv
        else:
            groups.setdefault(name, []).append(kv)
    states = []
    for name, others in groups.items():
        keys = Keys(prefix, name, mutex)
        present = (alone.pop(name, None), *others, *map(shared.get, (keys.last, keys.freeze, keys.policy)))
        states.append(state_of(keys, [kv for kv in present if kv is not None]))
    states += _held_once(alone, shared, prefix)
    states.sort(key=lambda state: state.name)
    return [state for state in states if state.holders or state.waiting or state.is_frozen_itself]


def _held_once(alone: dict[str, KeyValue], shared: dict[bytes, KeyValue], prefix: str) -> list[LockState]:
    """As `state_of`, for locks with a single key, as nearly all are: their records are parsed together."""
    last, policies, freeze = last_prefix(prefix), policy_prefix(prefix), freeze_key(prefix)
    freezes = (Freeze.parse(None, shared[freeze]),) if freeze in shared else ()
    new = tuple.__new__  # `Value` would count the fields of each
    states = []
    for (name, kv), record in zip(alone.items(), parse_records([kv.value for kv in alone.values()])):
        key, value, token, modified, lease = kv
        if MAYBE_TAKEN_OVER in value:
            token = token_of(kv)
        expect = record.number("expect")
        holder = new(Holder, (name, 0, record, token, modified, lease, key, value, kv, None, expect, None, False, None))
        encoded = name.encode()
        note = shared.get(last + encoded)
        fields = (name, (holder,), 0, (), None if note is None else note.value, freezes, None, False, 0)
        state = new(LockState, fields)
        policy = shared.get(policies + encoded)
        states.append(state if policy is None else _under(state, policy))
    return states


def _under(state: LockState, policy: KeyValue) -> LockState:
    from distlock_core.model.policy import Policy

    return state.under(Policy.parse(state.name, policy))


def one_of(state: LockState, owner: str | None, token: int | None, otherwise: str) -> Holder:
    """The one hold that matches owner and token. Raises `LockNotFound`, `NotHolder`.

    `otherwise` is the code of the hint for a hold of another owner.
    """
    if not state.holders:
        raise LockNotFound(f"{printable(state.name)} is not locked", state=state)
    fitting = [
        holder
        for holder in state.holders
        if (owner is None or holder.owner == owner) and (token is None or holder.token == token)
    ]
    if not fitting:
        hints = [see(state.name)]
        if token is not None:
            tokens = " and ".join(str(holder.token) for holder in state.holders)
            why = f"with token {tokens}, not {token}: left alone"
        else:
            why = f"not by {printable(owner or '')}: left alone"
            hints = [*_otherwise(otherwise, state), *hints]
        raise NotHolder(f"{taken(state)}, {why}", state=state, hints=hints)
    if len(fitting) > 1:
        hints = [Hint(CHOOSE_TOKEN, lock=state.name, owner=owner, tokens=[holder.token for holder in fitting])]
        raise NotHolder(taken(state), state=state, hints=hints)
    return fitting[0]


def _otherwise(code: str, state: LockState) -> list[Hint]:
    if code == BREAK:
        return [breaks(holder) for holder in state.holders[:MOST_NAMED]]
    return [Hint(code, lock=state.name, tokens=[holder.token for holder in state.holders])]


def breaks(holder: Holder) -> Hint:
    """The hint that breaks this hold, and no later one."""
    return Hint(BREAK, lock=holder.lock, token=holder.token)


def gone(state: LockState) -> LockNotFound | NotHolder:
    """The error for a hold that has ended since it was read."""
    if not state.holders:
        return LockNotFound(f"{printable(state.name)} is no longer locked: the hold ended in the meantime", state=state)
    return NotHolder(f"{taken(state)}; the hold in question ended in the meantime: left alone", state=state)
