"""`distlock --policy`: show, set or remove the policy of a lock."""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.cli.acquire import realm
from distlock_core.cli.json_output import as_json
from distlock_core.cli.outcome import OK, out, say
from distlock_core.cli.table import aligned
from distlock_core.model.policy import FIELDS, Policy, shown
from distlock_core.model.policy_change import difference
from distlock_core.model.wording import clock, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.cli.command_line import Request
    from distlock_core.model.policy_change import PolicyChange

COLUMNS = ("LOCK", "SLOTS", "COOLDOWN", "WINDOW", "EXPECT", "SET BY", "SINCE", "REASON")


def policy(request: Request) -> int:
    settings = request.settings
    name, given = settings.lockname, {field: settings.by_key(field) for field in FIELDS if field in settings.given}
    if given:
        reason = settings.reason if "reason" in settings.given else None
        change = realm(request).set_policy(
            name, **given, reason=reason, owner=settings.id, replace=request.clear, dry_run=request.dry_run
        )
    elif request.clear:
        change = realm(request).clear_policy(name, dry_run=request.dry_run)
    else:
        return _show(request)
    return _tell(request, change)


def policy_json(found: Policy | None) -> dict[str, object] | None:
    if found is None:
        return None
    fields = {field: getattr(found, field) for field in FIELDS}
    about = {"by": found.by, "since": found.since, "reason": found.reason, "trouble": found.trouble or None}
    return {"lock": found.lock, **fields, **about}


def _show(request: Request) -> int:
    settings = request.settings
    if settings.lockname:
        one = realm(request).policy(settings.lockname)
        found = [] if one is None else [one]
    else:
        found = realm(request).policies()
    if settings.json:
        return out(as_json({"policies": [policy_json(one) for one in found]}))
    if found:
        return out(aligned([COLUMNS, *map(_row, found)]))
    if not settings.quiet:
        name = settings.lockname
        say(f"{name} has no policy under {settings.prefix}" if name else f"no policies under {settings.prefix}")
    return OK


def _tell(request: Request, change: PolicyChange) -> int:
    settings, before, after = request.settings, change.before, change.after
    if settings.json:
        document = {"lock": settings.lockname, "changed": change.changed, "dry_run": request.dry_run}
        return out(as_json({"policy": {**document, "before": policy_json(before), "after": policy_json(after)}}))
    if not settings.quiet:
        say(f"{settings.lockname}: {difference(change, dry_run=request.dry_run)}")
    return OK


def _row(found: Policy) -> tuple[str, ...]:
    values = [shown(field, getattr(found, field)) if field in found.fields else "-" for field in FIELDS]
    since = "-" if found.since is None else clock(found.since)
    reason = f"cannot be followed: {found.trouble}" if found.trouble else printable(found.reason)
    return (printable(found.lock), *values, owner_of(found.by), since, reason)
