"""Starting the command under a lock. No shell is involved, except for a script without an interpreter line."""

from __future__ import annotations

import errno
import os
import select

from distlock_core.base.deadline import FOREVER, now
from distlock_core.base.plain_signal import signal
from distlock_core.base.text import for_shell, printable
from distlock_core.command.signal_mask import CATCHABLE, PYTHON_IGNORES
from distlock_core.errors import NotStarted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OF_A_SHELL = (" ", "&", "|", ";", "<", ">", "$", "`", "*")  # not in a program's name, but in a line for a shell
SHELL = "/bin/sh"  # runs a script without `#!`, as a shell, flock and timeout do
LATE = b"late"


class TooLate(Exception):
    """The moment after which the command must not be started has passed."""


def start(command: Sequence[str], environ: Mapping[str, str], mask: set[int | signal.Signals]) -> int:
    """Start a command with this signal mask and return its pid. Raises `NotStarted`."""
    words = list(command)
    try:
        try:
            return os.posix_spawnp(words[0], words, environ, setsigmask=mask, setsigdef=PYTHON_IGNORES)
        except OSError as error:
            words = _by_shell(_found(words[0]), words) if error.errno == errno.ENOEXEC else []
            if not words:
                raise
            return os.posix_spawn(SHELL, words, environ, setsigmask=mask, setsigdef=PYTHON_IGNORES)
    except (OSError, ValueError) as error:
        raise not_started(command[0], error) from error


def start_by_fork(
    command: Sequence[str],
    environ: Mapping[str, str],
    mask: set[int | signal.Signals],
    *,
    inherited: int | None = None,
    tied: bool = False,
    not_after: float = FOREVER,
) -> int:
    """As `start`, with a descriptor to inherit. `tied`: the kernel kills the command when this process dies.

    `not_after` is on the `now()` clock. The child checks it right before it becomes the command; `TooLate` is raised
    if it has passed. No other thread may be working, though threads may wait for work.
    """
    from distlock_core.process.table import die_with_parent

    words, variables, parent = list(command), dict(environ), os.getpid()
    reset = [number for number in CATCHABLE if callable(signal.getsignal(number))]
    try:
        reader, writer = os.pipe()
    except OSError as error:
        raise not_started(words[0], error) from error
    try:
        pid = os.fork()
    except OSError as error:
        os.close(reader)
        os.close(writer)
        raise not_started(words[0], error) from error
    if pid == 0:
        try:
            if tied:
                die_with_parent(parent)
            for number in (*reset, *PYTHON_IGNORES):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if inherited is not None:
                os.set_inheritable(inherited, True)
            become(words, variables, not_after, late=lambda: _say_late(writer))
        except OSError as error:
            os.write(writer, str(error.errno).encode())
        except BaseException as error:  # noqa: BLE001 - nothing may leave this branch but exec or _exit
            os.write(writer, f"0{error}".encode("utf-8", "replace")[:200])
        os._exit(127)
    os.close(writer)
    problem = _outcome(pid, reader, not_after)
    if problem:
        os.waitpid(pid, 0)
        if problem == LATE:
            raise TooLate
        text = problem.decode("utf-8", "replace")
        reason = os.strerror(int(text)) if text[0] != "0" else text[1:]
        raise not_started(words[0], OSError(0, reason))
    return pid


def become(words: list[str], environ: Mapping[str, str], not_after: float, late: Callable[[], None]) -> None:
    """Turn this process into a command, found as by execvp(3). Raises `OSError`.

    The clock is checked last. After `not_after`, `late`, which does not return, is called instead.
    """
    paths = _candidates(words[0], environ)
    _replace_environment(environ)  # here, so that it does not come between the check of the clock and exec
    found: OSError | None = None
    for path in paths:
        try:
            _execute(path, words, not_after, late)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                by_shell = _by_shell(path, words)
                if not by_shell:
                    raise
                _execute(SHELL, by_shell, not_after, late)
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                raise
            # As in execvp(3): a file that may not be executed is reported rather than one that is missing.
            if found is None or error.errno == errno.EACCES:
                found = error
    raise found or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _replace_environment(environ: Mapping[str, str]) -> None:
    """As `os.environ.clear()` and `update()`, but only what differs is touched: in a fork each page that is costs."""
    for name, value in list(os.environ.items()):
        if environ.get(name) != value:
            del os.environ[name]
    for name in environ.keys() - os.environ.keys():
        os.environ[name] = environ[name]


def _execute(path: str, words: list[str], not_after: float, late: Callable[[], None]) -> None:
    # If this process or machine was stopped between the claim and here, the lock may already be another's.
    if now() >= not_after:
        late()
    os.execv(path, words)  # noqa: S606 - no shell is the point


def _say_late(writer: int) -> None:
    os.write(writer, LATE)
    os._exit(127)


def _outcome(pid: int, reader: int, not_after: float) -> bytes:
    """The child's message if it does not become the command, b"" if it does."""
    with open(reader, "rb", buffering=0) as pipe:
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        while not poll.poll(1000):
            if now() >= not_after:
                os.kill(pid, signal.SIGKILL)  # it was stopped before it could check the clock
                return LATE
        return pipe.readall() or b""


def _candidates(name: str, environ: Mapping[str, str]) -> list[str]:
    if "/" in name:
        return [name]
    return [os.path.join(folder or ".", name) for folder in os.get_exec_path(environ)]


def _found(name: str) -> str:
    """The file that `start` finds for this name."""
    paths = _candidates(name, os.environ)
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), name)


def _by_shell(path: str, words: list[str]) -> list[str]:
    """The command line for a script without an interpreter line; [] if the file is no script."""
    with open(path, "rb", buffering=0) as file:
        if b"\0" in (file.read(128) or b""):
            return []
    return [SHELL, path, *words[1:]]


def not_started(name: str, error: Exception) -> NotStarted:
    """The error for a command that could not be started."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    shown = printable(name)
    hint = ""
    if any(mark in name for mark in OF_A_SHELL) and not os.path.exists(name):
        hint = f". No shell reads the command; for a line of shell: -- sh -c {for_shell(shown)}"
    return NotStarted(f"cannot start {shown}: {reason}{hint}")
