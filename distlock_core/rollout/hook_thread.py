"""HookThreads: the hooks of a program that holds a lock for long, run by threads, in nobody's way."""

from __future__ import annotations

import os
from _queue import SimpleQueue

from distlock_core.base.threads import start_thread
from distlock_core.errors import ConfigError, DistlockError
from distlock_core.rollout.hooks import ACQUIRED, LOST, RELEASED, TO_END, Hooks, RunningHook, facts_of, held_facts
from distlock_core.rollout.shell import stderr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distlock_core.lock.lock import Lock


class HookThreads:
    """Runs the hooks of one lock. Its methods never block, but for `close()`.

    Those of acquisitions and releases run one after another, in their order. That of a loss waits for none of them.
    """

    def __init__(self, hooks: Hooks, tell: Callable[[str], None]) -> None:
        """`tell` gets a line about each that goes wrong.

        Raises `ConfigError`, and `RuntimeError` if no more threads can be started.
        """
        if not hooks.timeout > 0:
            raise ConfigError(f"hooks: the timeout {hooks.timeout} is not above 0")
        self._hooks = hooks
        self._facts: Mapping[str, str] = {}
        self._in_turn, self._of_losses = _Worker(hooks.timeout, tell), _Worker(hooks.timeout, tell)

    def acquired(self, lock: Lock) -> None:
        """The lock is held."""
        try:
            holders = lock.holders
        except DistlockError:
            return  # it is lost again
        self._facts = facts_of(holders)
        self._in_turn.hand(ACQUIRED, self._hooks.on_acquired, {**self._facts, **held_facts(holders, lock.lease)})

    def lost(self, why: str) -> None:
        """The lock that was acquired last is lost."""
        facts, self._facts = self._facts, {}
        if facts:
            self._of_losses.hand(LOST, self._hooks.on_lost, {**facts, "DISTLOCK_LOSS": why})

    def released(self) -> None:
        """The lock that was acquired last is released."""
        facts, self._facts = self._facts, {}
        if facts:
            self._in_turn.hand(RELEASED, self._hooks.on_released, {**facts, "DISTLOCK_OUTCOME": RELEASED})

    def close(self) -> None:
        """Wait for the hooks that run or are to run, each up to its limit, and end the threads."""
        for worker in (self._in_turn, self._of_losses):
            worker.close()


class _Worker:
    """A thread that runs one hook after another."""

    def __init__(self, seconds: float, tell: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._tell = tell
        self._pid = os.getpid()
        self._orders: SimpleQueue[tuple[str, str, Mapping[str, str]] | None] = SimpleQueue()
        self._left = 0  # hooks that have not ended
        self._thread = start_thread(self._run, "distlock-hooks")

    def hand(self, event: str, line: str | None, facts: Mapping[str, str]) -> None:
        if line is not None and self._pid == os.getpid():
            self._left += 1
            self._orders.put((event, line, {**facts, "DISTLOCK_EVENT": event}))

    def close(self) -> None:
        if self._pid == os.getpid():
            self._orders.put(None)
            self._thread.join((self._seconds + TO_END) * (self._left + 1))

    def _run(self) -> None:
        while True:
            order = self._orders.get()
            if order is None:
                return
            event, line, facts = order
            try:
                problem = RunningHook(line, facts, self._seconds, stderr()).wait()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next hooks are run
                problem = f"{type(error).__name__}: {error}"
            self._left -= 1
            if problem:
                self._tell(f"on_{event}: {problem}")
