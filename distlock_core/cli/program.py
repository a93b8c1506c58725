"""The frame of each console script: signals, streams, exit code, unexpected errors."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

FAILED = 1


def as_a_program(body: Callable[[], int]) -> NoReturn:
    """Run `body` as a well-behaved Unix program: signals, streams, exit code. Ends the process.

    An unexpected error is reported in one line on stderr, with exit code 1.
    """
    let_ctrl_c_end_it()
    _occupy_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None if the caller has closed it
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = body()
    except Exception as error:  # noqa: BLE001 - a traceback would not help the user
        code = _unexpected(error)
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        from distlock_core.cli.outcome import give_up

        give_up(sys.stderr)
    if code == 130:  # 128 + SIGINT
        _die_at_the_terminal(code)
    # Everything is written and released by now. Finalizing the interpreter would take a tenth of the whole call.
    os._exit(code)


def let_ctrl_c_end_it() -> None:
    """Let Ctrl-C end the process at once, until a handler is set, instead of raising an exception anywhere."""
    from distlock_core.base.plain_signal import signal

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _occupy_closed_streams() -> None:
    """Open /dev/null as stdin, stdout or stderr if the caller has closed it, so that no connection becomes one of them.

    It is not inherited: the command finds them closed, as the caller intended.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            try:
                os.open(os.devnull, os.O_RDWR)
            except OSError:
                return  # a root directory without /dev


def _unexpected(error: Exception) -> int:
    """Report in one line what has happened, and where in the code."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "distlock_core" in code.co_filename:
            place = f" ({os.path.basename(code.co_filename)}:{trace.tb_lineno})"
        trace = trace.tb_next
    line = f"unexpected error, a bug in distlock: {type(error).__name__}: {error}{place}"
    try:
        from distlock_core.cli.outcome import say

        say(line)
    except Exception:  # noqa: BLE001 - memory or descriptors may be exhausted
        try:
            os.write(2, f"distlock: {line!a}\n".encode())
        except OSError:
            pass
    return FAILED


def _die_at_the_terminal(code: int) -> None:
    """End by SIGINT itself. A shell that saw an exit code instead would continue its loop or script."""
    from distlock_core.base.plain_signal import signal
    from distlock_core.command.end import ExitedBySignal
    from distlock_core.command.job_control import in_the_foreground

    if isinstance(code, ExitedBySignal) and in_the_foreground():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
