"""`--on-acquired`, `--on-lost` and `--on-released`: the hooks of one call, from their preparation to their end."""

from __future__ import annotations

from distlock_core.cli.signals import interrupt_on_signals
from distlock_core.command.hook_process import HookProcess
from distlock_core.errors import Cancelled
from distlock_core.lock.lock import hold_of
from distlock_core.model.wording import listed
from distlock_core.rollout.hooks import ACQUIRED, LOST, RELEASED, facts_of, held_facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from distlock_core.base.deadline import Interrupt
    from distlock_core.lock.lock import Lock
    from distlock_core.model.state import Holder
    from distlock_core.settings.options import Settings


class Hooks:
    """The hooks of one call. Each runs at most once; none of them is waited for by what comes before its event.

    A hold that is entered again, and goes on when this call ends, was neither acquired nor is it released here.
    """

    def __init__(self, settings: Settings, events: Sequence[str], tell: Callable[[str], None]) -> None:
        """Prepare those for these events: to be called before any thread works. Raises `DistlockError`.

        `tell` gets a line about each that goes wrong.
        """
        self._tell = tell
        self._facts: Mapping[str, str] = {}
        self._name = settings.lockname
        self._processes: dict[str, HookProcess] = {}
        try:
            for event in events:
                line = settings.by_key(f"on_{event}")
                if line is not None:
                    self._processes[event] = HookProcess(line, settings.hook_timeout)
        except BaseException:
            self.close()
            raise

    def acquired_by(self, lock: Lock) -> None:
        """`acquired()`, unless the lock has entered a hold that goes on when it ends."""
        if hold_of(lock).stays:
            self._drop(ACQUIRED)
            self._drop(RELEASED)
        self.acquired(lock.holders, lock.lease)

    def acquired(self, holders: Sequence[Holder], lease: int | None = None) -> None:
        """The locks are held: start the hook, beside what follows."""
        self._know(holders)
        self._start(ACQUIRED, held_facts(holders, lease))

    def lost(self, why: str) -> None:
        """The lock is lost: start the hook. Never blocks or raises."""
        if self._facts:
            self._start(LOST, {"DISTLOCK_LOSS": why})
            self._drop(RELEASED)

    def released(self, how: str, code: int | None = None) -> None:
        """The lock is released: start the hook, once that of the acquisition has ended."""
        if RELEASED not in self._processes or not self._facts:
            return
        self._wait(ACQUIRED)
        ended = {} if code is None else {"DISTLOCK_EXIT_CODE": str(int(code))}
        self._start(RELEASED, {"DISTLOCK_OUTCOME": how, **ended})

    def unlocked(self, holders: Sequence[Holder], how: str) -> None:
        """These holds, which another call has acquired, are released."""
        self._know(holders)
        self.released(how)

    def finish(self) -> None:
        """Wait for the hooks that run, each up to its limit, and say what went wrong. A signal ends them."""
        for event in list(self._processes):
            self._wait(event)
        self.close()

    def close(self) -> None:
        """End them all."""
        for event in list(self._processes):
            self._drop(event)

    def _know(self, holders: Sequence[Holder]) -> None:
        self._name = listed([holder.lock for holder in holders])
        self._facts = facts_of(holders)

    def _start(self, event: str, more: Mapping[str, str]) -> None:
        process = self._processes.get(event)
        if process is not None and not process.is_running:
            process.start({**self._facts, "DISTLOCK_EVENT": event, **more})

    def _drop(self, event: str) -> None:
        process = self._processes.pop(event, None)
        if process is not None:
            process.close()

    def _wait(self, event: str) -> None:
        process = self._processes.get(event)
        if process is None or not process.is_running:
            return
        interrupt = interrupt_on_signals()
        try:
            problem = process.wait(interrupt)
        except Cancelled:
            problem = self._end_early(process, interrupt)
        if problem:
            self._tell(f"{self._name}: on_{event}: {problem}")
        self._drop(event)

    def _end_early(self, process: HookProcess, interrupt: Interrupt) -> str:
        from distlock_core.command.signal_mask import name_of

        process.stop()
        process.wait()
        return f"{name_of(interrupt.signal or 0)} has ended it"
