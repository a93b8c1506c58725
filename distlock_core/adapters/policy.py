"""A lock's policy, as Salt, Ansible and Puppet set it: exactly the fields that are named, or none."""

from __future__ import annotations

from distlock_core.connection import realm_of
from distlock_core.errors import ConfigError
from distlock_core.model.policy import FIELDS, Policy
from distlock_core.settings.options import BY_KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from distlock_core.model.policy_change import PolicyChange
    from distlock_core.settings.options import Settings


def set_exactly(
    settings: Settings, fields: Mapping[str, object], reason: str | None, *, dry_run: bool = False
) -> PolicyChange:
    """Set the policy of the lock in the settings to these fields (None: not set). Raises `DistlockError`."""
    given = {field: BY_KEY[field].value(value, field) for field, value in fields.items() if value is not None}
    if not given:
        raise ConfigError(f"a policy needs at least one of {', '.join(FIELDS)}")
    return realm_of(settings).set_policy(
        settings.lockname, **given, reason=reason, owner=settings.id, replace=True, dry_run=dry_run
    )


def remove(settings: Settings, *, dry_run: bool = False) -> PolicyChange:
    """Remove the policy of the lock in the settings. Raises `DistlockError`."""
    return realm_of(settings).clear_policy(settings.lockname, dry_run=dry_run)


def report(policy: Policy | None) -> dict[str, Any] | None:
    """The fields that are set, for a tool's report; None without a policy."""
    if policy is None:
        return None
    return {"trouble": policy.trouble} if policy.trouble else policy.fields
