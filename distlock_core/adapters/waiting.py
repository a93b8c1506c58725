"""Waiting until locks are free, idle or thawed, and taking nothing: for Ansible and for Puppet's tasks."""

from __future__ import annotations

import os

from distlock_core import connection
from distlock_core.errors import DistlockError
from distlock_core.process.nesting import held_around

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.base.deadline import Cancel
    from distlock_core.lock.wait_until import Reached
    from distlock_core.settings.options import Settings


def wait_until(settings: Settings, until: str, *, cancel: Cancel | None = None, only_look: bool = False) -> Reached:
    """Wait for the settings' locks, as `Realm.wait()`. `only_look` does not wait, whatever the timeout."""
    try:
        return connection.realm_of(settings).wait(
            settings.lock_names,
            until,
            timeout=0.0 if only_look else settings.timeout,
            slots=settings.slots if "slots" in settings.given and not settings.shared else None,
            shared=settings.shared,
            window=settings.window,
            rank=settings.rank,
            inside=held_around(os.environ),
            cancel=cancel,
        )
    except DistlockError as error:
        error.realm_settings = dict(settings.realm_arguments)
        raise
