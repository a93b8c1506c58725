"""The lock of a run of many processes, such as an Ansible play's."""

from __future__ import annotations

import os

from distlock_core.adapters.settings import check_settles, explicit_owner, run_ttl, shown_name
from distlock_core.connection import connect_arguments
from distlock_core.process.identity import trace_of
from distlock_core.process.nesting import without_own
from distlock_core.settings.load import checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from distlock_core.keeper.run_keeper import RunKeeper
    from distlock_core.settings.options import Settings

ENDED_EARLY = "the run was ended before it was done"  # reason of a hold that is then kept


def start_run_keeper(settings: Settings, reason: str = "", taker: Mapping[str, Any] | None = None) -> RunKeeper:
    """Start a process that acquires the lock for a run of many processes, and keeps it until the last of them is gone.

    `taker` is the trace of the run's main process (default: this one), `reason` the default for the settings' reason.
    If the run ends without a call of `end_hold()`, the lock is released, or kept or frozen as `on_failure` says. A gate
    is asked by that process, on this machine. Raises `DistlockError`.
    """
    from distlock_core.keeper.run_keeper import RunKeeper
    from distlock_core.keeper.run_keeper_process import AFTER_FAILURE, RELEASE

    check_settles(settings)
    settings = checked(settings._replace(ttl=settings.ttl or run_ttl()))
    spec = {
        "name": settings.lock_names,
        "owner": explicit_owner(settings),
        "reason": settings.reason or reason,
        "slots": settings.slots if "slots" in settings.given and not settings.shared else None,
        "shared": settings.shared,
        "window": settings.window,
        "expect": settings.expect,
        "rank": settings.rank,
        "cooldown": settings.cooldown,
        "ttl": settings.ttl,
        "refresh": settings.refresh,
        "details": {"taker": trace_of() if taker is None else dict(taker)},
    }
    orders = {
        "connection": connect_arguments(settings),
        "spec": spec,
        "timeout": settings.timeout,
        "kill_after": settings.time_to_end,
        "log_file": settings.log_file,
        "gate": _gate(settings),
        "at_end": (settings.on_failure, ENDED_EARLY) if settings.on_failure in AFTER_FAILURE else (RELEASE, None),
    }
    return RunKeeper(shown_name(settings), orders, dict(settings.realm_arguments))


def _gate(settings: Settings) -> dict[str, Any] | None:
    """The gate of the settings, for another process, and what becomes of a lock that it does not let go."""
    if settings.gate is None:
        return None
    return {
        "check": settings.gate,
        "timeout": settings.gate_timeout,
        "every": settings.gate_every,
        "steady": settings.gate_for,
        "before": "before" in settings.gate_at,
        "after": "after" in settings.gate_at,
        "environ": without_own(os.environ),
        "on_failure": settings.on_failure,
    }
