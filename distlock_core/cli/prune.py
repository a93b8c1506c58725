"""`distlock --prune`: delete old notes on how holds ended."""

from __future__ import annotations

from distlock_core.cli.acquire import realm
from distlock_core.cli.outcome import OK, out, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.cli.command_line import Request


def prune(request: Request) -> int:
    assert request.older_than is not None
    pruned = realm(request).prune(request.older_than, dry_run=request.dry_run)
    if request.settings.json:
        from distlock_core.cli.json_output import as_json

        details = {"older_than": request.older_than, "dry_run": request.dry_run, "kept": pruned.kept}
        return out(as_json({"pruned": {"locks": list(pruned.names), **details}}))
    if request.settings.verbose and pruned.names:
        from distlock_core.base.text import printable

        if out("\n".join(map(printable, pruned.names))) != OK:
            return 1
    if not request.settings.quiet:
        verb = "would delete" if request.dry_run else "deleted"
        say(f"{verb} the last end of {len(pruned.names)} locks under {request.settings.prefix}, kept {pruned.kept}")
    return OK
