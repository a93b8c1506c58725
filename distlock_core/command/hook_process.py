"""HookProcess: a process that is forked before the lock is claimed, and runs a hook when it is told to.

It is no descendant of this process, so what ends the command with all that is below this process does not end the hook,
nor wait for it. And when a lock is lost, nothing has to be loaded, opened or forked here: starting the hook is one
write that never blocks.
"""

from __future__ import annotations

import os
import select

from distlock_core.base import plain_json
from distlock_core.base.deadline import Patience
from distlock_core.base.descriptors import close_inherited
from distlock_core.base.plain_signal import signal
from distlock_core.command.signal_mask import CATCHABLE
from distlock_core.errors import DistlockError
from distlock_core.rollout.hooks import TO_END, RunningHook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from distlock_core.base.deadline import Cancel

FINE = b"+"  # the answer of a hook that went well
CHUNK = 65536
KEPT_OPEN = 2  # the last descriptor that the process inherits: stderr, for the hook's output


class HookProcess:
    """A process that waits to run one line of shell, once, for at most `seconds`.

    It ends by itself when this process does, and ends the hook with it.
    """

    def __init__(self, line: str, seconds: float) -> None:
        """To be called before any thread works. Raises `DistlockError`."""
        self._seconds = seconds
        opened: list[int] = []
        try:
            opened += os.pipe()
            opened += os.pipe()
            orders, self._orders, self._answers, answers = opened
            # Blocked there for good: what a terminal or a service manager sends to all is for distlock, which ends it.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, CATCHABLE)
            try:
                parent = os.fork()
                if parent == 0:
                    _leave_and_serve(orders, answers, line, seconds)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        except OSError as error:
            for descriptor in opened:
                os.close(descriptor)
            raise DistlockError(f"no process can be made for a hook: {error.strerror}") from error
        os.close(orders)
        os.close(answers)
        os.set_blocking(self._orders, False)
        try:
            os.waitpid(parent, 0)  # which has made the process, and ended
        except ChildProcessError:
            pass  # the caller ignores SIGCHLD
        self.is_running = False

    def start(self, facts: Mapping[str, str]) -> None:
        """Start the hook with these variables. Never blocks or raises: what goes wrong is told by `wait()`."""
        self.is_running = True
        line = plain_json.dumps(dict(facts)).encode() + b"\n"
        try:
            if os.write(self._orders, line) < len(line):
                self.stop()  # more than the pipe holds: the process must not wait for the rest
        except OSError:
            self.stop()  # the process has been killed, or not even the beginning fits

    def wait(self, cancel: Cancel | None = None) -> str:
        """Wait for the end of the hook, and return what went wrong in words. Raises `Cancelled`: it goes on then."""
        patience = Patience.lasting(self._seconds + TO_END, cancel)
        answer = b""
        while patience.wait(self._answers):
            found = os.read(self._answers, CHUNK)
            answer += found
            if not found:
                self.is_running = False
                return "" if answer == FINE else answer.decode("utf-8", "replace") or "its process was ended"
        self.is_running = False
        return f"it has not ended within {self._seconds:g}s, and cannot be ended"

    def stop(self) -> None:
        """End the hook early; `wait()` then takes seconds at most. A process that was not told to start ends."""
        if self._orders >= 0:
            os.close(self._orders)
            self._orders = -1

    def close(self) -> None:
        """Close its descriptors. A hook that still runs is ended."""
        self.stop()
        os.close(self._answers)


def _leave_and_serve(orders: int, answers: int, line: str, seconds: float) -> None:
    """In the fork: fork again, so that the process becomes an orphan, and serve there. Never returns."""
    try:
        if os.fork():
            os._exit(0)
        os.setsid()
        # Those of the lock, and those that distlock has inherited: a hook must not keep them open.
        close_inherited(KEPT_OPEN, {orders, answers})
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(KEPT_OPEN, 1)
        for number in CATCHABLE:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # distlock may be gone before the answer
        text = b""
        while not text.endswith(b"\n"):
            found = os.read(orders, CHUNK)
            if not found:
                os._exit(0)  # it is not needed
            text += found
        problem = RunningHook(line, plain_json.loads(text), seconds, KEPT_OPEN).wait(_Gone(orders))
        os.write(answers, problem.encode("utf-8", "replace") or FINE)
    except BaseException as error:  # noqa: BLE001 - nothing may leave this branch but _exit
        try:
            os.write(answers, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
        except OSError:
            pass
    finally:
        os._exit(0)


class _Gone:
    """A cancel that is set when the other end of a pipe is closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def fileno(self) -> int:
        return self._descriptor

    def is_set(self) -> bool:
        return bool(self._poll.poll(0))
