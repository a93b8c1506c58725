"""Explanations for Salt, Ansible and Puppet's tasks: would the settings' owner acquire the lock now?"""

from __future__ import annotations

import os

from distlock_core.adapters.settings import explicit_owner
from distlock_core.process.nesting import held_around

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.lock.explain import Explanation
    from distlock_core.lock.realm import Realm
    from distlock_core.settings.options import Settings


def explanation(settings: Settings, realm: Realm) -> Explanation:
    """As `Realm.explain()`, for the lock, the owner and the other settings."""
    return realm.explain(
        settings.lockname,
        explicit_owner(settings),
        slots=settings.slots if "slots" in settings.given and not settings.shared else None,
        window=settings.window,
        rank=settings.rank,
        shared=settings.shared,
        inside=held_around(os.environ),
    )
