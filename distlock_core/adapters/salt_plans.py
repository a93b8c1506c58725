"""Plans of a Salt run with `test=True`: later states must find the locks as a real run would have left them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.settings.options import Settings

KEY = "distlock.planned"


class Plans:
    """The locks that states of this run would have locked or unlocked, in Salt's `__context__`."""

    def __init__(self, context: dict[str, Any], run: object, *, test: bool) -> None:
        """`run` identifies the run: a minion may keep its context for several."""
        self._context = context
        self._run = run
        self._test = test

    def of(self, settings: Settings) -> str:
        """Return "locked" or "unlocked" for a lock with a plan, or for several with the same plan; else ""."""
        if not self._test:
            return ""
        plans: dict[object, str] = self._context.get(KEY, {})
        found = {plans.get(key, "") for key in self._keys(settings)}
        return found.pop() if len(found) == 1 else ""

    def add(self, settings: Settings, state: str) -> None:
        self._context.setdefault(KEY, {}).update(dict.fromkeys(self._keys(settings), state))

    def _keys(self, settings: Settings) -> list[tuple[object, ...]]:
        realm = self._run, ",".join(settings.endpoints or ()), settings.prefix
        return [(*realm, name, settings.id) for name in settings.lock_names]
