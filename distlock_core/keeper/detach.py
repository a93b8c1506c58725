"""Detaching: start of a process that outlives this one, and the first steps of that process.

It is no descendant of this process, and has a new session and no inherited descriptors, so that a tool that ends a job
with all its processes does not end it. Its orders come over its standard input, so they are in no process list.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time

from distlock_core.base.deadline import Patience
from distlock_core.base.descriptors import close_inherited
from distlock_core.command.signal_mask import CATCHABLE
from distlock_core.errors import DistlockError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# The variables that it needs from its caller: for libraries, name resolution, certificates, run notes and dates.
# Settings and secrets come over its standard input.
NEEDED = (
    *("HOME", "LANG", "LANGUAGE", "PATH", "TMPDIR", "TZ", "TZDIR", "XDG_STATE_HOME"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS"),
    *("OPENSSL_CONF", "OPENSSL_MODULES", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION",
)
NEEDED_BEGIN = ("LC_", "GRPC_")
READY = 15.0  # seconds that the start of a keeper may take
FAMILY = 3  # the keeper's descriptor of the pipe that shows whether all children of its process are gone
# The parent prints the keeper's pid and exits, which makes the keeper an orphan. The orders are read byte by byte, so
# that no later input is read ahead.
BOOT = (
    "import os;pid=os.fork();pid and (os.write(1,b'%d\\n'%pid),os._exit(0));os.setsid();"
    "import json,sys;line=b''.join(iter(lambda:os.read(0,1).strip(b'\\n'),b''));plan=json.loads(line);"
    "sys.path[:]=plan['path'];from importlib import import_module;import_module(plan['main']).main(plan)"
)


def spawn(main: str, title: str, orders: Mapping[str, Any], family: int | None = None) -> tuple[int, int, int]:
    """Start a process, no child of this one, that runs `main(orders)` of the module named `main` in a new session.

    It inherits only the descriptor `family`, if given, as `FAMILY`. Returns its pid, and this end of the pipes that are
    its standard input (after the orders) and its output. Raises `DistlockError`.
    """
    # Import by its last name, from its folder: it may be part of a larger package that cannot be imported there.
    home, package = _where()
    path = sys.path if home in sys.path else [home, *sys.path]
    main = package.rpartition(".")[2] + main[len(package) :]
    line = json.dumps({"path": path, "main": main, **orders}).encode() + b"\n"
    ours_in, theirs_out, theirs_in, ours_out = _pipes()
    actions = [
        (os.POSIX_SPAWN_DUP2, theirs_in, 0),
        (os.POSIX_SPAWN_DUP2, theirs_out, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    if family is not None:
        family = fcntl.fcntl(
            family, fcntl.F_DUPFD_CLOEXEC, FAMILY + 1
        )  # a descriptor that already has this number would not be inherited
        actions.append((os.POSIX_SPAWN_DUP2, family, FAMILY))
    command = [sys.executable, "-I", "-S", "-c", BOOT, title]
    try:
        parent = os.posix_spawn(
            sys.executable,
            command,
            environment(),
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=CATCHABLE,
        )
    except OSError as error:
        os.close(ours_in)
        os.close(ours_out)
        raise DistlockError(f"the keeper cannot be started: {error.strerror}") from error
    finally:
        os.close(theirs_in)
        os.close(theirs_out)
        if family is not None:
            os.close(family)
    try:
        pid = _orphan(parent, ours_in)
    except BaseException:
        os.close(ours_in)
        os.close(ours_out)
        raise
    try:
        with open(ours_out, "wb", closefd=False) as pipe:
            pipe.write(line)
    except OSError:
        pass  # it has already exited, and will not answer
    return pid, ours_out, ours_in


def _where() -> tuple[str, str]:
    """The folder that contains distlock_core, and the package's name here."""
    folder, package = os.path.abspath(__file__), __name__
    for _ in __name__.partition("distlock_core.")[2].split("."):
        folder, package = os.path.dirname(folder), package.rpartition(".")[0]
    return os.path.dirname(folder), package


def environment() -> dict[str, str]:
    """The environment of a keeper: the variables of this process that it needs."""
    return {name: value for name, value in os.environ.items() if name in NEEDED or name.startswith(NEEDED_BEGIN)}


def _pipes() -> tuple[int, int, int, int]:
    """Two pipes, each with its read end first. Raises `DistlockError`."""
    opened: list[int] = []
    try:
        opened += os.pipe()
        opened += os.pipe()
    except OSError as error:
        for descriptor in opened:
            os.close(descriptor)
        raise DistlockError(f"the keeper cannot be started: {error.strerror}: see ulimit -n") from error
    first_in, first_out, second_in, second_out = opened
    return first_in, first_out, second_in, second_out


def _orphan(parent: int, output: int) -> int:
    """Wait for the end of the new process's parent, and return the pid that it has printed."""
    text = b""
    patience = Patience.lasting(READY)
    while not text.endswith(b"\n") and patience.wait(output):
        data = os.read(output, 1)
        if not data:
            break
        text += data
    if not text.endswith(b"\n"):
        _kill_at_once(parent)
    try:
        os.waitpid(parent, 0)
    except ChildProcessError:
        pass  # another part of this program reaps all children
    if not text.endswith(b"\n"):
        raise DistlockError("the keeper cannot be started: its Python process did not respond")
    return int(text)


def _kill_at_once(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def stand_alone(leave_open: int = 2) -> None:
    """Close all inherited descriptors but the first ones, and leave the current directory, which may be unmounted."""
    close_inherited(leave_open)
    os.chdir("/")


def open_log(path: str | None) -> Callable[[str, bool], None]:
    """Return a function that logs to the file, or to syslog without one. It never raises."""
    import syslog

    syslog.openlog("distlock-keeper", syslog.LOG_PID, syslog.LOG_DAEMON)

    def log(line: str, loud: bool) -> None:
        try:
            if path:
                stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
                try:
                    with open(path, "a", encoding="utf-8") as file:
                        file.write(f"{stamp} distlock-keeper[{os.getpid()}] {'WARNING' if loud else 'INFO'} {line}\n")
                    return
                except OSError:
                    pass  # a full disk must not stop the keeper
            syslog.syslog(syslog.LOG_WARNING if loud else syslog.LOG_INFO, line)
        except Exception:  # noqa: BLE001, S110 - logging must not stop the keeper
            pass

    return log
