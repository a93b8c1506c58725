"""The operation `--break`: show a hold, ask, and end exactly that hold, whoever has it."""

from __future__ import annotations

import sys

from distlock_core.base.text import printable
from distlock_core.cli.acquire import realm
from distlock_core.cli.card import field, holder_lines
from distlock_core.cli.command_line import Request
from distlock_core.cli.json_output import as_json, holder_json, life_json
from distlock_core.cli.option_rules import UsageError
from distlock_core.cli.outcome import FAILED, OK, out, say, tell, warn
from distlock_core.cli.signals import interrupt_on_signals
from distlock_core.lock.break_hold import hold_to_break
from distlock_core.lock.holder_life import HolderLife
from distlock_core.model.wording import held_by
from distlock_core.process.fate import ALIVE
from distlock_core.process.identity import hostname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.model.state import Holder, LockState


def break_hold(request: Request) -> int:
    """Break the hold that is shown, once that is confirmed. Return the exit code."""
    settings, reason = request.settings, request.settings.reason
    asks = not (request.yes or request.dry_run)
    if asks:
        _check_that_somebody_answers(json=settings.json)
    elif not reason and not request.dry_run:
        raise UsageError("--break needs a reason, which is left for all to see: --reason=TEXT")
    found = realm(request)
    state = found.show(settings.lockname)
    holder = hold_to_break(state, request.token)
    life = HolderLife.of(holder, settings.state_dir)
    if not settings.json and (asks or not settings.quiet):
        tell(_card(state, holder, life, settings.state_dir))
    if life.process == ALIVE and not settings.quiet:
        warn([_of_a_living(holder)], json=settings.json)
    if asks:
        reason = reason or _answer("Why? The reason is left for all to see: ")
        if not reason or _answer("Break it? [y/N] ").lower() not in ("y", "yes"):
            say(f"{settings.lockname} is left alone" + ("" if reason else ": no reason was given"))
            return FAILED
    if not request.dry_run:
        found.break_hold(holder, reason, settings.id, cancel=interrupt_on_signals(2))
    if settings.json:
        about = {"by": settings.id or hostname(), "why": reason or None, "dry_run": request.dry_run}
        return out(as_json({"broken": {**holder_json(holder), **about, **life_json(life)}}))
    if not settings.quiet:
        verb = "would break" if request.dry_run else "broke"
        say(f"{verb} {holder.lock}, which {'is' if request.dry_run else 'was'} held by {held_by(holder)}")
    return OK


def _check_that_somebody_answers(*, json: bool) -> None:
    if json:
        raise UsageError("--break --json asks nobody: add --yes, or --dry-run to see what would be broken")
    if sys.stdin is None or sys.stderr is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "--break asks before it breaks a hold, and this is no terminal: add --yes, or --dry-run to see what would "
            "be broken"
        )


def _card(state: LockState, holder: Holder, life: HolderLife, state_dir: str | None) -> str:
    lives = [field(*line) for line in life.lines(holder)]
    lines = [printable(state.name), *holder_lines(holder, state_dir), *lives, field("waiting", str(state.waiting))]
    return "\n".join(lines)


def _of_a_living(holder: Holder) -> str:
    return (
        f"{printable(holder.lock)} is held for a process that is running on this machine. Breaking the lock does not "
        "stop it: unless it ends on a loss, it goes on beside the next holder"
    )


def _answer(question: str) -> str:
    """A line from the terminal, "" at its end."""
    sys.stderr.write(question)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        sys.stderr.write("\n")
    return line.strip()
