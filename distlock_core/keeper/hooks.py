"""The hooks of a keeper: `on_lost` and `on_released` of the lock that it keeps for another process."""

from __future__ import annotations

from distlock_core.rollout.hooks import RunningHook, facts_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from distlock_core.lock.lock import Lock


class KeeperHooks:
    """The hooks that the keeper's plan has. They have the keeper's environment, and no output."""

    def __init__(self, plan: Mapping[str, Any], lock: Lock, log: Callable[[str, bool], None]) -> None:
        self._facts = facts_of(lock.holders)
        self._plan = plan
        self._name = lock.name
        self._log = log

    def start(self, event: str, **more: str) -> Callable[[], None]:
        """Start the hook of this event, with more variables, and return what waits for its end. Never raises."""
        line = self._plan.get(f"on_{event}")
        if not line:
            return lambda: None
        facts = {**self._facts, "DISTLOCK_EVENT": event, **more}
        try:
            hook = RunningHook(line, facts, self._plan["hook_timeout"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the lock's process is still to be ended
            self._log(f"{self._name}: on_{event}: {type(error).__name__}: {error}", True)
            return lambda: None

        def finish() -> None:
            problem = hook.wait()
            if problem:
                self._log(f"{self._name}: on_{event}: {problem}", True)

        return finish
