"""Prefork: the command's process, forked before the lock is claimed. It waits, and becomes the command afterwards.

So the record names that process from the beginning, without a further write: if only distlock is killed, the next run
of the same owner sees that the command still runs. A failing fork is noticed before anything is locked.
"""

from __future__ import annotations

import os

from distlock_core.base import plain_json
from distlock_core.base.deadline import FOREVER
from distlock_core.base.plain_signal import signal
from distlock_core.command.signal_mask import CATCHABLE, PYTHON_IGNORES
from distlock_core.command.spawn import become, not_started
from distlock_core.process.identity import start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CHUNK = 65536


class Prefork:
    """A waiting child of this process. It ends silently when this process does, or by `close()`."""

    def __init__(self, command: Sequence[str]) -> None:
        """To be called before any thread works. Raises `NotStarted`."""
        self._command = list(command)
        try:
            orders, self._orders = os.pipe()
            self._problems, problems = os.pipe()
            # Blocked in the child while it waits: a terminal also sends it signals that are meant for distlock.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, CATCHABLE)
            try:
                self.pid = os.fork()
                if self.pid == 0:
                    _wait_and_become(orders, self._orders, problems)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        except OSError as error:
            raise not_started(self._command[0], error) from error
        os.close(orders)
        os.close(problems)
        self._is_open = False

    @property
    def trace(self) -> dict[str, int]:
        """Its pid and start time, which identify it in a record."""
        started = start_time(self.pid)
        return {"pid": self.pid} if started is None else {"pid": self.pid, "start": started}

    def open(self, environ: Mapping[str, str], mask: Iterable[int]) -> int:
        """Turn it into the command, with this signal mask, and return its pid. Raises `NotStarted`."""
        line = plain_json.dumps([self._command, dict(environ), [int(number) for number in mask]]).encode()
        self._is_open = True
        try:
            with open(self._orders, "wb") as pipe:
                pipe.write(line)
            with open(self._problems, "rb") as pipe:
                problem = pipe.read().decode("utf-8", "replace")
        except OSError:
            problem = "0its process has been ended"
        if not problem:
            return self.pid
        os.waitpid(self.pid, 0)
        reason = os.strerror(int(problem)) if problem[0] != "0" else problem[1:]
        raise not_started(self._command[0], OSError(0, reason))

    def close(self) -> None:
        """End it if it still waits. No effect on a command that was started."""
        if not self._is_open:
            self._is_open = True
            os.close(self._orders)
            os.close(self._problems)
            try:
                os.waitpid(self.pid, 0)
            except ChildProcessError:
                pass  # already reaped elsewhere


def _wait_and_become(orders: int, theirs: int, problems: int) -> None:
    """The child's main function: wait for the order to become the command, and follow it. Never returns."""
    try:
        os.close(theirs)
        text = b""
        while True:
            chunk = os.read(orders, CHUNK)
            if not chunk:
                break
            text += chunk
        if text:
            command, environ, mask = plain_json.loads(text)
            for number in CATCHABLE:
                before = signal.getsignal(number)
                signal.signal(number, signal.SIG_IGN)  # discards signals that arrived while it waited
                is_python = callable(before) or number in PYTHON_IGNORES
                signal.signal(number, signal.SIG_DFL if is_python or before is None else before)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            become(command, environ, FOREVER, late=lambda: None)
    except OSError as error:
        os.write(problems, str(error.errno).encode())
    except BaseException as error:  # noqa: BLE001 - this branch may end only by exec or _exit
        os.write(problems, f"0{error}".encode("utf-8", "replace")[:200])
    finally:
        os._exit(127)
