"""Figures: the locks of a realm are read for its metrics."""

from __future__ import annotations

import time

from distlock_core.lock.freeze import FreezeKey
from distlock_core.lock.listing import list_states, read_states
from distlock_core.model.keys import Keys, freeze_key
from distlock_core.model.metrics import Metrics, metrics_of
from distlock_core.model.name_patterns import is_pattern, matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from distlock_core.etcd.client import Etcd
    from distlock_core.lock.listing import NewPatience
    from distlock_core.model.state import LockState


def read_metrics(etcd: Etcd, prefix: str, mutex: str, names: Sequence[str], patience: NewPatience) -> Metrics:
    """The figures of these locks, of those that fit a pattern among the names, or without names of the whole realm.

    A lock that is named is there even if nobody holds it.
    """
    exact = [name for name in names if not is_pattern(name)]
    patterns = [name for name in names if is_pattern(name)]
    states: list[LockState] = []
    if exact:
        states += read_states(etcd, [Keys(prefix, name, mutex) for name in exact], patience, brief=True)
    everything: list[LockState] = []
    if patterns or not names:
        everything = list_states(etcd, prefix, mutex, patience, brief=True)
        states += [
            state
            for state in everything
            if state.name not in exact and (not names or any(matches(pattern, state.name) for pattern in patterns))
        ]
    seen = states or everything
    if seen:  # each has the freeze of its realm
        frozen = any(freeze.lock is None for freeze in seen[0].freezes)
    else:
        frozen = FreezeKey(etcd, freeze_key(prefix), None).find(patience()) is not None
    return metrics_of(prefix, sorted(states, key=lambda state: state.name), time.time(), frozen=frozen)
