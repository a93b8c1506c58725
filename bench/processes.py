"""Starts the measured processes, waits for them with a time limit, and leaves none behind."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 3.0  # seconds between SIGTERM and SIGKILL


class ToolFailedError(Exception):
    """A measured tool failed or took too long: it is reported, and excluded from the other parts."""


class InterruptedBySignalError(BaseException):
    """A BaseException, so that no caller mistakes it for the failure of one tool."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Processes:
    """All processes of the run; those still running are stopped at the end of the ``with`` block."""

    def __init__(self) -> None:
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._errors: dict[int, tempfile._TemporaryFileWrapper[bytes]] = {}
        self._deferring = False
        self._signal: int | None = None

    def __enter__(self) -> Processes:
        for number in SIGNALS:
            signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(list(self._running.values()))

    def start(self, argv: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start it in a separate process group, which Ctrl-C does not reach and which can be killed as a whole."""
        errors = tempfile.NamedTemporaryFile(prefix="bench-stderr-")  # noqa: SIM115 - closed with its process
        with self._uninterrupted():
            process = subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
            self._running[process.pid] = process
            self._errors[process.pid] = errors
        return process

    def run(self, argv: Sequence[str], env: Mapping[str, str], bound: float = 30.0) -> float:
        """Seconds from the start to the successful end of a process."""
        with self.bounded(bound):
            started = time.perf_counter()
            process = self.start(argv, env)
            process.wait()
            took = time.perf_counter() - started
            self.finish([process])
        return took

    @contextlib.contextmanager
    def bounded(self, seconds: float) -> Iterator[None]:
        """Kill processes started in the block that still run after this number of seconds, or at its end."""
        # A timer, and a wait() without a timeout: with one, wait() polls at up to 50 ms and so measures itself.
        before = set(self._running)
        expired = threading.Event()

        def started_inside() -> list[subprocess.Popen[bytes]]:
            return [process for pid, process in list(self._running.items()) if pid not in before]

        def expire() -> None:
            expired.set()
            for process in started_inside():
                process.kill()

        timer = threading.Timer(seconds, expire)
        timer.start()
        try:
            yield
        except ToolFailedError as failure:
            if expired.is_set():
                raise ToolFailedError(f"not done within {seconds:g} s") from failure
            raise
        finally:
            timer.cancel()
            self.stop(started_inside())

    def wait_all(self, processes: Sequence[subprocess.Popen[bytes]], bound: float) -> int:
        """Wait for all to end; return how many were killed because they still ran after this number of seconds."""
        late: list[subprocess.Popen[bytes]] = []

        def expire() -> None:
            late.extend(process for process in processes if process.poll() is None)
            for process in late:
                process.kill()

        timer = threading.Timer(bound, expire)
        timer.start()
        try:
            for process in processes:
                process.wait()
        finally:
            timer.cancel()
        return len(late)

    def finish(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        """Wait for all to end; raise the first failure, with the output of that process."""
        failure = None
        for process in processes:
            code = process.wait()
            del self._running[process.pid]
            with self._errors.pop(process.pid) as errors:
                if code != 0 and failure is None:
                    errors.seek(0)
                    text = errors.read().decode(errors="replace").strip().splitlines()
                    failure = f"exit {code}: {text[-1] if text else 'nothing printed'}"
        if failure is not None:
            raise ToolFailedError(failure)

    def stop(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        """Send SIGTERM, wait up to GRACE seconds, then send SIGKILL to each process group."""
        for process in processes:
            if process.returncode is None:
                process.terminate()
        deadline = time.monotonic() + GRACE
        for process in processes:
            while process.returncode is None and not _ended(process.pid) and time.monotonic() < deadline:
                time.sleep(0.01)
            if process.returncode is None:
                # Before the process is reaped, as its group id may be reused afterwards.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._running.pop(process.pid, None)
            errors = self._errors.pop(process.pid, None)
            if errors is not None:
                errors.close()

    @contextlib.contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """Defer signals from the start of a process until it is on the list, or it would be left behind."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._signal is not None:
            raise InterruptedBySignalError(self._signal)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if self._signal is not None:
            return  # already stopping, with a time limit: a second Ctrl-C must not interrupt that
        self._signal = number
        if not self._deferring:
            raise InterruptedBySignalError(number)


def wait_until(what: str, condition: Callable[[], bool], bound: float, pause: float = 0.02) -> None:
    """Poll a condition, with a time limit."""
    deadline = time.monotonic() + bound
    while not condition():
        if time.monotonic() > deadline:
            raise ToolFailedError(f"{what}: not within {bound:g} s")
        time.sleep(pause)


def cpu_of_children() -> float:
    """CPU seconds of all children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def _ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
