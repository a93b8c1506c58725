"""Views of processes from outside, bounded reads of their output, and a command that reports its signals.

Without any code under test.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from typing import IO, Any, Callable, TypeVar

from tests.support.polling import is_readable, poll

BOUND = 30.0  # seconds after which an event that a test waits for counts as missing; a busy machine is slow

# Prints each signal that arrives, once per arrival. Ends at SIGUSR2.
_WITNESS = """
import signal, sys
names = sys.argv[1:] + ["SIGUSR2"]
signals = [getattr(signal, name) for name in names]
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print("ready", flush=True)
while True:
    number = signal.sigwaitinfo(signals).si_signo
    print("got", signal.Signals(number).name, flush=True)
    if number == signal.SIGUSR2:
        break
"""


T = TypeVar("T")


class Process(subprocess.Popen[str]):
    """A process in text mode, whose streams are always pipes."""

    stdin: IO[str]
    stdout: IO[str]
    stderr: IO[str]


def present(value: T | None) -> T:
    """The value, which must not be None."""
    assert value is not None
    return value


def python(code: str, *arguments: str) -> list[str]:
    """A command: a small Python program that starts fast."""
    return [sys.executable, "-I", "-S", "-c", code, *arguments]


def witness(*names: str) -> list[str]:
    """A command that prints `ready`, then `got NAME` for each of these signals, and ends at SIGUSR2."""
    return python(_WITNESS, *names)


def wait_until(condition: Callable[[], Any], what: str, bound: float = BOUND) -> Any:
    """Return the value of `condition` as soon as it is true: for sources without events, such as /proc."""
    found = poll(condition, bound)
    assert found, f"not within {bound:g} s: {what}"
    return found


def pause(seconds: float) -> None:
    time.sleep(seconds)


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line on a process's stdout, with a bound."""
    assert process.stdout is not None
    assert is_readable(process.stdout, BOUND), "it has said nothing"
    line: str = process.stdout.readline()
    return line.rstrip("\n")


def one_line(text: str) -> str:
    """The only line of a text."""
    assert text.endswith("\n"), text
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text[:-1]


def status_of(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return dict(line.rstrip("\n").split(":\t", 1) for line in status)


def is_running(pid: int) -> bool:
    """True for a process that exists and is no zombie."""
    try:
        return not status_of(pid)["State"].startswith(("Z", "X"))
    except (FileNotFoundError, ProcessLookupError):
        return False


def is_stopped(pid: int) -> bool:
    return status_of(pid)["State"].startswith("T")


def is_asleep(pid: int) -> bool:
    """True for a process that sleeps."""
    return status_of(pid)["State"].startswith("S")


def signals_in(mask: str) -> set[int]:
    """The signals that a hexadecimal mask of /proc/PID/status names."""
    bits = int(mask, 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}


def wait_until_taken(pid: int, number: int) -> None:
    """Return when a signal sent to a process is no longer pending, so that its handler has been called."""

    def taken() -> bool:
        status = status_of(pid)
        return number not in signals_in(status["SigPnd"]) | signals_in(status["ShdPnd"])

    wait_until(taken, f"{signal.Signals(number).name} taken by {pid}")


class Output:
    """The output of a pipe or a terminal, read as it arrives; `text` is all of it so far."""

    def __init__(self, stream: Any) -> None:
        self._fd: int = stream if isinstance(stream, int) else stream.fileno()
        self._data = b""
        self._seen = 0
        self.ended = False

    @property
    def text(self) -> str:
        return self._data.decode(errors="replace")

    def until(self, pattern: str, bound: float = BOUND) -> re.Match[str]:
        """Read until `pattern` occurs after the previous match. Fails at the end or after `bound` seconds."""
        deadline = time.monotonic() + bound
        while True:
            fresh = self._data[self._seen :].decode("latin-1")
            found = re.search(pattern.encode().decode("latin-1"), fresh)
            if found:
                self._seen += found.end()
                return found
            assert not self.ended, f"ended without {pattern!r}: {self.text!r}"
            assert self._read(deadline - time.monotonic()), f"no {pattern!r} within {bound:g} s: {self.text!r}"

    def all(self, bound: float = BOUND) -> str:
        """Read to the end."""
        deadline = time.monotonic() + bound
        while not self.ended:
            assert self._read(deadline - time.monotonic()), f"no end within {bound:g} s: {self.text!r}"
        return self.text

    def _read(self, seconds: float) -> bool:
        if not is_readable(self._fd, seconds):
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # a terminal raises it when its other side is closed
            data = b""
        self._data += data
        self.ended = not data
        return True
