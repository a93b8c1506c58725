"""The policies of a realm's locks: read, set, remove. What is in a policy: `model/policy.py`."""

from __future__ import annotations

import time

from distlock_core.base.deadline import RETRY_PAUSE, Patience
from distlock_core.base.text import printable
from distlock_core.errors import ConfigError, OutcomeUnknown
from distlock_core.etcd.values import Compare, Delete, Get, KeyValue, Put
from distlock_core.hints import POLICY, Hint
from distlock_core.model.checks import check_owner, check_text
from distlock_core.model.keys import Keys, ends, policy_prefix
from distlock_core.model.policy import Policy, fields_of
from distlock_core.model.policy_change import PolicyChange
from distlock_core.model.record import Record
from distlock_core.process.identity import hostname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import Op


def read_policy(etcd: Etcd, keys: Keys, patience: Patience) -> Policy | None:
    found = _read(etcd, keys, patience)
    return None if found is None else Policy.parse(keys.name, found)


def read_policies(etcd: Etcd, prefix: str, patience: Patience) -> list[Policy]:
    """All policies of a realm, by name."""
    start = policy_prefix(prefix)
    found = etcd.read([Get(*ends(start))], patience).ranges()[0].kvs
    return [Policy.parse(kv.key[len(start) :].decode(errors="backslashreplace"), kv) for kv in found]


def set_policy(
    etcd: Etcd,
    keys: Keys,
    fields: Mapping[str, Any],
    owner: str | None,
    reason: str | None,
    patience: Patience,
    *,
    replace: bool = False,
    dry_run: bool = False,
) -> PolicyChange:
    """Set the fields that are not None, as this owner (default: the host name). Raises as `change_policy()`."""
    given = {field: value for field, value in fields.items() if value is not None}
    if not given:
        raise ConfigError("a policy needs at least one of slots, cooldown, window and expect")
    by = hostname() if owner is None else check_owner(owner)
    if reason is not None:
        check_text(reason, "reason")
    return change_policy(etcd, keys, by, given, reason, patience, replace=replace, dry_run=dry_run)


def change_policy(
    etcd: Etcd,
    keys: Keys,
    by: str,
    given: Mapping[str, Any],
    reason: str | None,
    patience: Patience,
    *,
    replace: bool = False,
    dry_run: bool = False,
) -> PolicyChange:
    """Set fields of a policy. The other fields stay, or with `replace` are removed. With `replace` and none: remove it.

    A policy that has all of this already is not written again. `reason` None leaves it. Raises `ConfigError`,
    `EtcdUnavailable`, `AccessDenied`, and `OutcomeUnknown` if it is unknown whether it was changed.
    """
    fields = fields_of(given)
    doubt: OutcomeUnknown | None = None
    first: Policy | None = None
    while True:
        kv = _read(etcd, keys, patience)
        before = None if kv is None else Policy.parse(keys.name, kv)
        record = _record(before, by, fields, reason, replace=replace)
        planned = None if record is None else Policy.parse(keys.name, KeyValue(keys.policy, record.encode(), 0, 0, 0))
        change = PolicyChange(before, planned)
        is_same = not change.changed and (before is None or reason is None or reason == before.reason)
        if is_same or dry_run:
            if doubt is not None:
                return PolicyChange(first, before)  # an earlier attempt was applied
            return PolicyChange(before, before) if is_same else change
        first = before if doubt is None else first
        revision = 0 if kv is None else kv.mod_revision
        op: Op = Delete(keys.policy) if record is None else Put(keys.policy, record.encode())
        try:
            outcome = etcd.txn([Compare("MOD", "EQUAL", keys.policy, revision)], [op], [], patience)
        except OutcomeUnknown as unknown:
            if patience.over():
                raise
            doubt = unknown
            patience.pause(RETRY_PAUSE)
            continue
        if outcome.succeeded:
            after = planned if planned is None else planned._replace(mod_revision=outcome.revision)
            return PolicyChange(before, after)


def _record(
    before: Policy | None, by: str, fields: Mapping[str, Any], reason: str | None, *, replace: bool
) -> Record | None:
    """The record to be written, None for no policy."""
    if replace or before is None:
        kept, text = {}, reason or ""
    elif before.trouble:
        raise ConfigError(
            f"the policy of {printable(before.lock)} is not changed in part, as it cannot be read: {before.trouble}",
            hints=[Hint(POLICY, lock=before.lock)],
        )
    else:
        kept, text = before.fields, before.reason if reason is None else reason
    details = {**kept, **fields}
    if not details:
        return None
    return Record(int(time.time()), by, {**({"reason": text} if text else {}), **details})


def _read(etcd: Etcd, keys: Keys, patience: Patience) -> KeyValue | None:
    found = etcd.read([Get(keys.policy)], patience).ranges()[0].kvs
    return found[0] if found else None
