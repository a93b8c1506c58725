"""distlock: one lock, honoured by everything that changes a cluster.

>>> from distlock_core import connect
>>> with connect(["http://10.0.0.1:2379"]).lock("percona_prod", reason="Upgrade RPMs") as lock:
...     upgrade(fencing_token=lock.token)
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.base.deadline import Interrupt
    from distlock_core.connection import connect
    from distlock_core.errors import (
        AccessDenied,
        AcquireTimeout,
        Cancelled,
        CheckFailed,
        ConfigError,
        DistlockError,
        EtcdUnavailable,
        Frozen,
        GateClosed,
        LimitConflict,
        LockBusy,
        LockLost,
        LockNotFound,
        NotFrozen,
        NotHolder,
        NotSettled,
        NotStarted,
        OutcomeUnknown,
        OutsideWindow,
    )
    from distlock_core.events.notices import Notice
    from distlock_core.events.ownership import Ownership
    from distlock_core.lock.lock import Lock
    from distlock_core.lock.realm import Realm
    from distlock_core.lock.session import Session
    from distlock_core.manager import LockManager
    from distlock_core.model.freeze import Freeze
    from distlock_core.model.policy import Policy
    from distlock_core.model.state import Holder, LockState, Waiter
    from distlock_core.rollout.gate import Gate, settle
    from distlock_core.rollout.hooks import Hooks
    from distlock_core.rollout.needed import acquire_if_needed

# Loaded on first use, so that a program pays for what it uses.
_HOMES = {
    "Lock": "lock.lock",
    "LockManager": "manager",
    "Freeze": "model.freeze",
    "Holder": "model.state",
    "LockState": "model.state",
    "Waiter": "model.state",
    "Policy": "model.policy",
    "Notice": "events.notices",
    "Ownership": "events.ownership",
    "Interrupt": "base.deadline",
    "Realm": "lock.realm",
    "Gate": "rollout.gate",
    "Hooks": "rollout.hooks",
    "acquire_if_needed": "rollout.needed",
    "settle": "rollout.gate",
    "connect": "connection",
    "Session": "lock.session",
}

__all__ = [
    "AccessDenied",
    "AcquireTimeout",
    "Cancelled",
    "CheckFailed",
    "ConfigError",
    "DistlockError",
    "EtcdUnavailable",
    "Freeze",
    "Frozen",
    "Gate",
    "GateClosed",
    "Holder",
    "Hooks",
    "Interrupt",
    "LimitConflict",
    "Lock",
    "LockBusy",
    "LockLost",
    "LockManager",
    "LockNotFound",
    "LockState",
    "NotFrozen",
    "NotHolder",
    "NotSettled",
    "NotStarted",
    "Notice",
    "OutcomeUnknown",
    "OutsideWindow",
    "Ownership",
    "Policy",
    "Realm",
    "Session",
    "Waiter",
    "acquire_if_needed",
    "connect",
    "settle",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
