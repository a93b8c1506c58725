"""Starting the command under a lock. Nothing is read by a shell."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

from distlock_core.errors import NotStarted
from distlock_core.wording import printable

# Python ignores these; a command expects the default.
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)


def start(command: Sequence[str], environ: Mapping[str, str], mask: set[int | signal.Signals]) -> int:
    """Start a command with this signal mask, and return its pid. Raises `NotStarted`."""
    try:
        return os.posix_spawnp(command[0], list(command), environ, setsigmask=mask, setsigdef=RESTORED)
    except (OSError, ValueError) as error:
        raise not_started(command[0], error) from error


def start_by_fork(
    command: Sequence[str],
    environ: Mapping[str, str],
    mask: set[int | signal.Signals],
    *,
    inherited: int | None = None,
    tied: bool = False,
) -> int:
    """As `start`, with a descriptor to inherit; `tied`: the kernel kills the command when this process dies.

    To be called before any thread is started.
    """
    from distlock_core.processes import die_with_parent

    parent = os.getpid()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if tied:
                die_with_parent(parent)
            for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                if callable(signal.getsignal(number)) or number in RESTORED:
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if inherited is not None:
                os.set_inheritable(inherited, True)
            os.execvpe(command[0], list(command), dict(environ))  # noqa: S606 - no shell is the point
        except OSError as error:
            os.write(writer, str(error.errno).encode())
        except BaseException as error:  # noqa: BLE001 - nothing may leave this branch but exec or _exit
            os.write(writer, f"0{error}".encode("utf-8", "replace")[:200])
        os._exit(127)
    os.close(writer)
    with open(reader, "rb") as pipe:
        problem = pipe.read().decode("utf-8", "replace")
    if problem:
        os.waitpid(pid, 0)
        reason = os.strerror(int(problem)) if problem[0] != "0" else problem[1:]
        raise not_started(command[0], OSError(0, reason))
    return pid


def not_started(name: str, error: Exception) -> NotStarted:
    """The error for a command that could not be started."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return NotStarted(f"cannot start {printable(name)}: {reason}")
