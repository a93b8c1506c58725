"""The operations `--freeze` and `--thaw`, of a lock or of the whole realm."""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.cli.acquire import realm
from distlock_core.cli.command_line import Request
from distlock_core.cli.json_output import as_json, frozen_json
from distlock_core.cli.outcome import OK, out, say
from distlock_core.model.wording import frozen_by, is_frozen_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.model.freeze import Freeze


def freeze(request: Request) -> int:
    """Freeze, and say what is frozen: without --lock-name that is the realm. Return the exit code."""
    settings = request.settings
    done = realm(request).freeze(
        settings.lockname or None,
        reason=settings.reason,
        seconds=request.lasts,
        owner=settings.id,
        force=request.force,
    )
    if settings.json:
        return out(as_json({"frozen": _json(done, settings.prefix)}))
    if not settings.quiet:
        say(is_frozen_by(done) + ("" if done.lock is not None else f"; its prefix is {printable(settings.prefix)}"))
    return OK


def thaw(request: Request) -> int:
    """Thaw, and say whose freeze has ended. Return the exit code."""
    settings = request.settings
    done = realm(request).thaw(settings.lockname or None)
    if settings.json:
        return out(as_json({"thawed": _json(done, settings.prefix)}))
    if not settings.quiet:
        what = f"the realm {printable(settings.prefix)}" if done.lock is None else printable(done.lock)
        say(f"thawed {what}, which was frozen by {frozen_by(done)}")
    return OK


def _json(done: Freeze, prefix: str) -> dict[str, object]:
    return {"lock": done.lock, "prefix": prefix, **frozen_json(done)}
