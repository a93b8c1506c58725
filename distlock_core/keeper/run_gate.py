"""RunGate: the gate of a run's lock, asked by the run's keeper before it acquires and before it releases the lock."""

from __future__ import annotations

from distlock_core.errors import Cancelled, DistlockError, LockLost, NotSettled
from distlock_core.rollout.gate import Gate, settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from distlock_core.base.deadline import Cancel
    from distlock_core.lock.lock import Lock

INSTEAD = {False: "left taken", True: "frozen"}  # what becomes of a lock that is not released, by `freezes`


class RunGate:
    """A gate in the orders of a run. `question` is asked by the acquisition, `settle()` asks it after the work."""

    def __init__(self, *, after: bool, on_failure: str, **words: Any) -> None:
        """`words` are those of `Gate`. `on_failure` is the setting: `freeze` freezes a lock that is not released."""
        self.question = Gate(after=False, **words)  # no release asks it by itself
        self.freezes = on_failure == "freeze"
        self._after = after
        from distlock_core.lock import freeze  # noqa: F401 - loaded while no lock is held

    def settle(self, lock: Lock, cancel: Cancel, tell: Callable[[str], None]) -> DistlockError | None:
        """Wait until the gate is green after the work. Returns why the lock must not be released, if it must not.

        `tell` is called with the reason of the wait. A lost lock is reported by its release.
        """
        if not self._after:
            return None
        try:
            settle(lock, self.question, cancel, tell)
        except LockLost:
            return None
        except NotSettled as error:
            found: DistlockError = error
        except Cancelled:
            found = NotSettled(f"{lock.name}: not released: the wait was ended; {self.question.story}")
        except Exception as error:  # noqa: BLE001 - nobody knows whether the cluster is healthy
            found = NotSettled(f"{lock.name}: not released: {type(error).__name__}: {error}")
        else:
            return None
        found.message += f": the lock is {INSTEAD[self.freezes]} for a person to look at"
        return found

    def why(self, lock: Lock) -> str:
        """The reason of a lock that was not released."""
        reason = lock.holders[0].reason
        return f"not healthy after the work: {self.question.story}" + (f" ({reason})" if reason else "")
