"""Change of a policy, and how it is described. Pure."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.model.policy import FIELDS, Policy, shown


class PolicyChange(Value):
    """A change of a policy: what it was, and what it is now. None: there was, or is, no policy."""

    before: Policy | None
    after: Policy | None

    @property
    def changed(self) -> bool:
        """True if anything that applies to acquisitions is different."""
        if self.before is None or self.after is None or self.before.trouble:
            return self.before is not self.after
        return self.before.fields != self.after.fields


def difference(change: PolicyChange, *, dry_run: bool = False) -> str:
    """The change in one phrase: `policy changed: slots 3 -> 2, window removed`."""
    before, after = change.before, change.after
    would = "would be " if dry_run else ""
    if not change.changed:
        return "it has no policy" if after is None else f"its policy has this already: {_words(after)}"
    if after is None:
        return f"policy {would}removed: {_words(before)}"
    if before is None or before.trouble:
        return f"policy {would}set: {_words(after)}"
    old, new = before.fields, after.fields
    parts = []
    for field in FIELDS:
        if field in old and field in new and old[field] != new[field]:
            parts.append(f"{field} {shown(field, old[field])} -> {shown(field, new[field])}")
        elif field in new and field not in old:
            parts.append(f"{field} {shown(field, new[field])} (was not set)")
        elif field in old and field not in new:
            parts.append(f"{field} removed (was {shown(field, old[field])})")
    return f"policy {would}changed: {', '.join(parts)}"


def _words(found: Policy | None) -> str:
    if found is None:
        return ""
    return found.trouble or ", ".join(f"{field} {shown(field, value)}" for field, value in found.fields.items())
