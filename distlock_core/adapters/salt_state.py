"""StateCall: one call of a Salt state: its arguments and settings, the run that it is part of, and its result."""

from __future__ import annotations

import os

from distlock_core.adapters import salt_reports, salt_settings
from distlock_core.adapters.salt_plans import Plans
from distlock_core.adapters.settings import LOCK_NAMES
from distlock_core.errors import DistlockError
from distlock_core.process.identity import trace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, Protocol

    from distlock_core.lock.acquire import Waiting
    from distlock_core.model.freeze import Freeze
    from distlock_core.model.state import Holder
    from distlock_core.settings.options import Settings

    class EventBus(Protocol):
        """Where states tell what they do to locks. Nothing in it raises."""

        def waiter(self, owner: str | None) -> Callable[[Waiting], None]: ...

        def acquired(self, holders: Iterable[Holder]) -> None: ...

        def ended(self, holders: Iterable[Holder], by: str | None, *, cools: bool = ...) -> None: ...

        def failed(self, event: str, names: Iterable[str], owner: str | None, why: str) -> None: ...

        def freeze(self, event: str, freeze: Freeze) -> None: ...


class StateCall:
    """One call of a state. `result()` carries it out."""

    def __init__(
        self,
        state: str,
        module: Mapping[str, Any],
        given: Mapping[str, Any],
        bus: Callable[[Mapping[str, Any], Mapping[str, Any]], EventBus],
    ) -> None:
        """`module` is the `globals()` of the state's module, where Salt puts `__opts__` and the like.

        `bus` makes Salt's event bus from its `__salt__` and `__opts__`. `given` is the `locals()` of the state's
        function: its arguments, and in `more` those that it does not have.
        """
        self._state = state
        self._module = module
        self.given = given
        self.name: str = given["name"]
        self.bus = bus(module["__salt__"], module["__opts__"])
        self.is_test: bool = module["__opts__"]["test"]

    def result(self, work: Callable[[StateCall], dict[str, Any]]) -> dict[str, Any]:
        """Return what `work` returns. An error of distlock is a failure, and its message and advice the comment."""
        try:
            salt_reports.refuse(self.given["more"], self._state, self._module["__states__"])
            return work(self)
        except DistlockError as error:
            return self.done(False, salt_reports.said(error))

    def done(
        self,
        result: bool | None,
        comment: str,
        changes: Mapping[str, Any] | None = None,
        *,
        warnings: Sequence[str] = (),
    ) -> dict[str, Any]:
        """The return value of a state. A `result` of None: a dry run that would change something."""
        ret: dict[str, Any] = {"name": self.name, "changes": {**(changes or {})}, "result": result, "comment": comment}
        if warnings:
            ret["warnings"] = [*warnings]
        if "watch" in self._low:
            ret["skip_watch"] = True  # or Salt would call mod_watch after a state without changes, and after a failure
        return ret

    def settings(self, without: Sequence[str] = ()) -> Settings:
        """The settings of this call; see `of_call()`. Raises `ConfigError`."""
        given = {**self.given, "name": self.lock_name}
        return salt_settings.of_call(self._module["__salt__"], self._module["__opts__"], given, without)

    @property
    def lock_name(self) -> str | None:
        """The name of the lock; None with `lock_names`, where the name of the state is its id."""
        is_id = self.given.get(LOCK_NAMES) is not None and self.name == self._low.get("__id__")
        return None if is_id else self.name

    @property
    def run(self) -> int | None:
        """The process that lives exactly as long as this state run; None if the run is a thread of the minion."""
        opts = self._module["__opts__"]
        if opts.get("__cli") != "salt-call" and not opts.get("multiprocessing", True):
            return None
        # A `parallel: true` state is a child of the run.
        return os.getppid() if self._low.get("parallel") else os.getpid()

    @property
    def taker(self) -> dict[str, Any]:
        """Trace of the process for which a lock is taken: the run, or the minion if the run is a thread of it."""
        return trace_of(self.run or os.getpid())

    @property
    def plans(self) -> Plans:
        """What the states before this one would have locked and unlocked, in a dry run."""
        return Plans(self._module["__context__"], self._module.get("__instance_id__"), test=self.is_test)

    @property
    def listeners(self) -> list[str]:
        """The other states of this run that act on `listen`, and so after all others."""
        return salt_reports.listeners(self._module.get("__lowstate__") or (), self._low.get("__id__"))

    @property
    def _low(self) -> Mapping[str, Any]:
        return self._module.get("__low__") or {}
