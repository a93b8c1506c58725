"""The operation `--explain`: would this owner be let in now, and if not, why? It only reads."""

from __future__ import annotations

import os

from distlock_core.base.text import printable
from distlock_core.cli.acquire import realm
from distlock_core.cli.hint import advice
from distlock_core.cli.json_output import as_json
from distlock_core.cli.outcome import OK, out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.cli.command_line import Request
    from distlock_core.lock.explain import Explanation
    from distlock_core.lock.topics import Condition


def explain(request: Request) -> int:
    """Print the explanation. The exit code is 0 if this owner would be let in, else that of a busy lock."""
    from distlock_core.process.nesting import held_around

    settings = request.settings
    found = realm(request).explain(
        settings.lockname,
        settings.id,
        slots=settings.slots if "slots" in settings.given and not settings.shared else None,
        window=settings.window,
        rank=settings.rank,
        shared=settings.shared,
        inside=held_around(os.environ),
    )
    done = OK
    if settings.json or not settings.quiet:
        done = out(as_json({"explained": found.fields(advice)}) if settings.json else _text(found))
    return done if done != OK or found.lets_in else settings.busy_exit_code


def _text(found: Explanation) -> str:
    verb = "would be let in now" if found.lets_in else "would not be let in now"
    how = f" ({found.how})" if found.how not in ("", "new") else ""
    lines = [f"{printable(found.lock)}: {printable(found.owner)} {verb}{how}"]
    for condition in found.conditions:
        lines += _lines(condition)
    return "\n".join(lines)


def _lines(condition: Condition) -> list[str]:
    indent = " " * 15
    lines = [f"  {'yes' if condition.holds else 'NO':4} {condition.topic:8}{condition.value}"]
    if condition.who:
        lines.append(f"{indent}who can change it: {condition.who}")
    return [*lines, *(f"{indent}{advice(hint)}" for hint in condition.hints)]
