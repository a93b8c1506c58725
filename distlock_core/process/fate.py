"""Fate of a process that a trace names: alive, gone, or unknown.

"Not seen" never counts as "gone": if something cannot be read (hidepid, another namespace, no boot id), the answer
is "unknown".
"""

from __future__ import annotations

import errno
import os

from distlock_core.process.identity import own_place, proc_shows_own_namespace, stat_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.process.identity import Trace

ALIVE, GONE, UNKNOWN = "alive", "gone", "unknown"
LARGEST_PID = 2**22  # the kernel's own limit


def fate(trace: Trace, remembered_boot: str | None = None) -> tuple[str, str]:
    """The state of a process: `ALIVE`, `GONE` or `UNKNOWN`, and a sentence about why it is unknown.

    `remembered_boot` is the boot in which this machine has noted the acquisition that the trace belongs to. Only with
    such a note does another boot id prove that the process is gone, since clones and containers share names and machine
    ids.
    """
    host, boot, pid, start = (trace.get(field) for field in ("host", "boot", "pid", "start"))
    here = own_place()
    if not (isinstance(pid, int) and isinstance(start, int) and 0 < pid <= LARGEST_PID):
        return UNKNOWN, "no process is named"
    if host != here["host"]:
        return UNKNOWN, "it is on another host"
    if (trace.get("machine") or "") != here["machine"]:
        return UNKNOWN, "it is on another machine of that name"
    if not boot or not here["boot"]:
        return UNKNOWN, "the boot id cannot be read"
    if boot != here["boot"]:
        if remembered_boot == boot:
            return (
                (GONE, "")
                if here["machine"]
                else (UNKNOWN, "it ran before another boot, and there is no /etc/machine-id")
            )
        return UNKNOWN, "it ran before another boot, and this machine has no note that it was here"
    if trace.get("ns") is None or any(trace.get(name) != here[name] for name in ("ns", "time_ns")):
        return UNKNOWN, "it is in another namespace (a container?)"
    return _fate_here(pid, start)


def is_gone(pid: int, start: int) -> bool:
    """True if the process with that pid and start time, of this machine, boot and namespace, is provably gone."""
    return _fate_here(pid, start)[0] == GONE


def pid_is_free(pid: int) -> bool:
    """True if no process of this namespace has that pid. EPERM proves that it is in use."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.ESRCH
    except OverflowError:
        return True
    return False


def has_ended(pid: int) -> bool:
    """True if no living process of this namespace has that pid: none at all, or one that nobody has reaped yet.

    Without a start time, another process that got the same pid counts as this one.
    """
    if pid_is_free(pid):
        return True
    stat = stat_of(pid) if proc_shows_own_namespace() else None
    return stat is not None and not stat.is_alive


def _fate_here(pid: int, start: int) -> tuple[str, str]:
    if pid_is_free(pid):
        return GONE, ""
    stat = stat_of(pid) if proc_shows_own_namespace() else None
    if stat is None:
        return (GONE, "") if pid_is_free(pid) else (UNKNOWN, "it cannot be seen in /proc")
    return (GONE, "") if stat.started != start or not stat.is_alive else (ALIVE, "")
