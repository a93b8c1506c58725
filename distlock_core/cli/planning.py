"""`--dry-run`: what an operation, or a run, would do now. It reads only, and refuses what the call would refuse."""

from __future__ import annotations

from distlock_core.base.text import for_shell, printable
from distlock_core.cli.acquire import lock_for, realm
from distlock_core.cli.command_line import Request
from distlock_core.cli.json_output import as_json, frozen_json, holder_json
from distlock_core.cli.outcome import OK, out, say
from distlock_core.model.wording import held_by, is_frozen_by, listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def plan_acquisition(request: Request) -> int:
    """Of a run, and of `--lock`. If it may wait, whoever it would wait for is no failure. Runs nothing."""
    from distlock_core.lock.preview import foresee_all

    settings = request.settings
    found = foresee_all(lock_for(request), settings.timeout)
    waits = None if isinstance(found, tuple) else found
    entered = found if isinstance(found, tuple) else (None,) * len(settings.lock_names)
    if settings.json:
        locks = [
            {
                "lock": name,
                "how": None if waits else "new" if one is None else one.how,
                "hold": None if one is None else holder_json(one.holder),
            }
            for name, one in zip(settings.lock_names, entered)
        ]
        plan = {"locks": locks, "waits": waits and waits.message, "command": request.command or None}
        return _out(request, plan)
    steps = [f"would wait: {waits.message}"] if waits else []
    free = [name for name, one in zip(settings.lock_names, entered) if one is None]
    steps += [f"would lock {listed(free)}"] if free and not waits else []
    steps += [f"would enter {printable(one.holder.lock)}, held by {held_by(one.holder)}" for one in entered if one]
    if settings.gate is not None and "before" in settings.gate_at:
        steps.append("would ask the gate before that")
    if settings.only_if is not None or settings.unless is not None:
        steps.append("would ask first whether there is work")
    if request.command:
        steps.append(f"would run {' '.join(for_shell(printable(word)) for word in request.command)}")
    return _say(request, "; ".join(steps))


def plan_unlock(request: Request) -> int:
    from distlock_core.lock.unlock import holds_to_unlock

    settings = request.settings
    states = realm(request).show_all(settings.lock_names)
    holders = holds_to_unlock(states, settings.id, request.token, None, settings.state_dir, force=request.force)
    if settings.json:
        return _out(request, {"holds": [holder_json(holder) for holder in holders]})
    each = [f"would unlock {printable(holder.lock)}, which is held by {held_by(holder)}" for holder in holders]
    return _say(request, "; ".join(each))


def plan_freeze(request: Request) -> int:
    from distlock_core.lock.freeze import already_frozen

    settings = request.settings
    present = realm(request).frozen(settings.lockname or None)
    if present is not None and not request.force:
        raise already_frozen(present)
    if settings.json:
        plan = {"lock": settings.lockname or None, "prefix": settings.prefix}
        return _out(request, {**plan, "replaces": None if present is None else frozen_json(present)})
    what = printable(settings.lockname) if settings.lockname else f"the realm {printable(settings.prefix)}"
    before = "" if present is None else f"; {is_frozen_by(present)}: that freeze would be replaced"
    return _say(request, f"would freeze {what}{before}")


def _out(request: Request, plan: dict[str, Any]) -> int:
    return out(as_json({"planned": {"operation": request.operation, **plan}}))


def _say(request: Request, line: str) -> int:
    if not request.settings.quiet:
        say(line)
    return OK
