"""The operations `--list`, `--show` and `--get`: the states of locks, as a table, in full, or a value alone."""

from __future__ import annotations

import gc
import sys

from distlock_core.base.text import printable
from distlock_core.cli.acquire import realm
from distlock_core.cli.card import card
from distlock_core.cli.command_line import Request
from distlock_core.cli.json_output import as_json, frozen_json, life_json, locks_json
from distlock_core.cli.outcome import OK, out, say
from distlock_core.cli.table import table
from distlock_core.model.name_patterns import is_pattern, matches
from distlock_core.model.wording import are, is_frozen_by, listed


def list_all(request: Request) -> int:
    names, prefix = request.settings.lock_names, request.settings.prefix
    found = realm(request)
    if names and not any(map(is_pattern, names)):
        shown = found.show_all(names)
    else:
        gc.disable()  # it would search all locks again and again, and find nothing
        shown = found.list(brief=not request.settings.json)
        if names:
            shown = [state for state in shown if any(matches(name, state.name) for name in names)]
    states = [state for state in shown if state.holders or state.waiting or state.is_frozen_itself]
    whole = next((freeze for freeze in shown[0].freezes if freeze.lock is None), None) if shown else found.frozen()
    if request.settings.json:
        locks = [lock for state in states for lock in locks_json(state)]
        return out(as_json({"locks": locks, "frozen": None if whole is None else frozen_json(whole)}))
    if not request.settings.quiet:
        own = [freeze for state in states for freeze in state.freezes if freeze.lock is not None]
        for freeze in own if whole is None else [whole, *own]:
            say(is_frozen_by(freeze))
    if states:
        return out(table(states))
    if not request.settings.quiet:
        none = " and none of them is waited for" if len(names) > 1 else " and nobody waits for it"
        if any(map(is_pattern, names)):
            say(f"no locks under {prefix} match {listed(names)}")
        else:
            say(f"{are(names)} not locked under {prefix},{none}" if names else f"no locks under {prefix}")
    return OK


def show(request: Request) -> int:
    settings = request.settings
    states = realm(request).show_all(settings.lock_names)
    if settings.json:
        from distlock_core.lock.holder_life import HolderLife

        locks = []
        for state in states:
            lives = [life_json(HolderLife.of(holder, settings.state_dir)) for holder in state.holders]
            locks += [{**lock, **life} for lock, life in zip(locks_json(state), lives or [life_json(None)])]
        return out(as_json({"locks": locks}))
    return out("\n\n".join(card(state, settings.prefix, settings.state_dir) for state in states))


def get(request: Request) -> int:
    name = request.settings.lockname
    value = realm(request).get(name)
    if request.settings.json:
        return out(as_json({"got": {"lock": name, "value": value}}))
    if value and sys.stdout is not None and sys.stdout.isatty():
        value = printable(value)  # escaped for a terminal; a program gets it unchanged
    return out(value or "")
