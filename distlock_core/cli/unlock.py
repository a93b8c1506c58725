"""The operation `--unlock`, with `--gate` once the gate is green."""

from __future__ import annotations

from distlock_core.cli.acquire import cancelled, realm
from distlock_core.cli.command_line import Request
from distlock_core.cli.outcome import OK, out, say
from distlock_core.cli.signals import interrupt_on_signals
from distlock_core.errors import Cancelled


def unlock(request: Request) -> int:
    """Unlock, and say whose hold that was if it was another owner's. Return the exit code."""
    settings = request.settings
    owner = settings.id
    if settings.gate is not None:
        _settle(request)
    second = interrupt_on_signals(2)
    holders = realm(request).unlock_all(
        settings.lock_names,
        owner,
        token=request.token,
        force=request.force,
        cooldown=settings.cooldown,
        cancel=second,
    )
    if request.hooks is not None:
        from distlock_core.lock.unlock import cooldown_of
        from distlock_core.process.identity import hostname

        cooled = [cooldown_of(holder, owner or hostname(), settings.cooldown) for holder in holders]
        request.hooks.unlocked(holders, "released" if set(cooled) == {None} else "cooling")
    if settings.json:
        from distlock_core.cli.json_output import as_json, holder_json, one_or_all

        return out(as_json({"unlocked": one_or_all([holder_json(holder) for holder in holders])}))
    from distlock_core.process.identity import hostname

    for holder in holders:
        broken = holder.owner != (owner or hostname())
        if settings.verbose or (broken and not settings.quiet):
            from distlock_core.model.wording import held_by

            say(f"unlocked {holder.lock}, which was held by {held_by(holder)}")
    return OK


def _settle(request: Request) -> None:
    """Wait for the gate before an unlock. Raises `NotSettled` if it is not green in time: the lock is kept."""
    from distlock_core.model.record import ATTENDED
    from distlock_core.rollout.gate import gate_of, settle_step

    settings, found = request.settings, realm(request)
    if "after" not in settings.gate_at or request.force:
        return
    holder = found.to_unlock(settings.lockname, settings.id, token=request.token)
    interrupt = interrupt_on_signals()
    if holder.record.state in ATTENDED:
        try:
            settle_step(found, holder, gate_of(settings), interrupt)
        except Cancelled as error:
            ended = cancelled(interrupt)
            ended.message = f"{holder.lock}: {error.message}"
            raise ended from None
