"""Identity of processes: their traces in records, and whether two traces mean the same process."""

from __future__ import annotations

import binascii
import os

from distlock_core.base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Trace = Mapping[str, Any]

FIELDS = ("host", "machine", "boot", "ns", "time_ns", "pid", "start")
# Programs that only run another program, and end with it: a step is never taken for them.
WRAPPERS = {
    b"sudo",
    b"doas",
    b"su",
    b"runuser",
    b"pkexec",
    b"timeout",
    b"time",
    b"flock",
    b"chrt",
    b"unshare",
    b"nsenter",
    b"strace",
}
DEEPEST = 256  # most ancestors of a process that are examined


def hostname() -> str:
    """This host's name, without characters that a record cannot hold."""
    return "".join(character for character in os.uname().nodename if character > " " and character != ";") or "unknown"


def new_run() -> str:
    """A random id for one acquisition: 128 bits in hexadecimal."""
    return os.urandom(16).hex()


def trace_of(pid: int | None = None) -> dict[str, Any]:
    """The trace of a process (default: this one), by which it can be recognized, and its end proved, later.

    `host`, `machine` (a checksum of the machine id), `boot` (the kernel's id of this boot), `ns` and `time_ns` (inodes
    of the pid and time namespaces to which `pid` and `start` refer), `pid`, `start` (clock ticks since boot). Fields
    that cannot be read are left out.
    """
    if pid is None or pid == os.getpid():
        stat = stat_of("self")
        return _trace(own_place(), os.getpid(), None if stat is None else stat.started)
    # In a /proc of another namespace, the pid belongs to another process.
    return _trace(own_place(), pid, start_time(pid) if proc_shows_own_namespace() else None)


def ancestry(pid: int | None = None) -> list[dict[str, Any]]:
    """The traces of a process (default: this one) and of its visible ancestors, youngest first."""
    place = own_place()
    found: list[dict[str, Any]] = []
    pid = os.getpid() if pid is None else pid
    younger: int | None = None
    if not proc_shows_own_namespace():
        return found
    while pid > 0 and len(found) < DEEPEST:
        stat = stat_of(pid)
        # An ancestor is no younger than its child: this pid has been reused meanwhile.
        if stat is None or (younger is not None and stat.started > younger):
            break
        found.append(_trace(place, pid, stat.started))
        pid, younger = stat.parent, stat.started
    return found


def caller() -> dict[str, Any]:
    """The trace of the process for which this one takes a step: its parent, or the caller of sudo."""
    place, pid = own_place(), os.getppid()
    stat = stat_of(pid) if proc_shows_own_namespace() else None
    while stat is not None and stat.name in WRAPPERS and stat.parent > 1:
        pid = stat.parent
        stat = stat_of(pid)
    return _trace(place, pid, None if stat is None else stat.started)


def is_same(trace: Trace, other: Trace) -> bool:
    """True if both traces are of one process: every field agrees, and all identifying fields are known."""
    return is_identified(trace) and all(trace.get(field) == other.get(field) for field in FIELDS)


def is_identified(trace: Trace) -> bool:
    """True if the trace identifies one process for good: boot, pid and start time are known."""
    return all(trace.get(field) for field in ("host", "boot", "pid", "start"))


def start_time(pid: int) -> int | None:
    """The start time of a process, in clock ticks since boot. Pid and start time identify a process for good.

    None if there is no such process or it cannot be seen: `is_gone()` distinguishes the two.
    """
    stat = stat_of(pid)
    return None if stat is None or not stat.is_alive else stat.started


def boot_id() -> str:
    """The kernel's random id of this boot, "" if there is none."""
    return _first_line("/proc/sys/kernel/random/boot_id")


def proc_shows_own_namespace() -> bool:
    """True if /proc shows the pid namespace of this process, so that its pids are valid here."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return False
        with open("/proc/self/status", "rb") as status:
            # One pid for each namespace from that of /proc down to that of this process.
            nested = [line.split()[1:] for line in status if line.startswith(b"NSpid:")]
    except OSError:
        return False
    return not nested or len(nested[0]) == 1


class Stat(Value):
    """The fields of /proc/PID/stat."""

    name: bytes
    parent: int
    state: bytes
    threads: int
    started: int  # clock ticks since boot

    @property
    def is_alive(self) -> bool:
        """False for a zombie, unless other threads of it are alive: then only its main thread has ended."""
        return self.state not in (b"Z", b"X") or self.threads > 1


def stat_of(pid: int | str) -> Stat | None:
    """Return a process's entry in /proc, None if there is none."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
        # The second field, the program's name in parentheses, may itself contain spaces and parentheses.
        name, _, rest = text.partition(b"(")[2].rpartition(b")")
        fields = rest.split(None, 20)
        return Stat(name, int(fields[1]), fields[0], int(fields[17]), int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None


def own_place() -> dict[str, Any]:
    """The fields that all traces of processes seen from here have in common."""
    return {
        "host": hostname(),
        "boot": boot_id(),
        "machine": _machine(),
        "ns": _namespace("pid"),
        "time_ns": _namespace("time"),
    }


def _trace(place: Mapping[str, Any], pid: int, start: int | None) -> dict[str, Any]:
    found = {"host": place["host"], "pid": pid, "start": start, **place}
    return {name: value for name, value in found.items() if value}


def _machine() -> str:
    # Only a checksum: the machine id is confidential (machine-id(5)).
    text = _first_line("/etc/machine-id")
    return f"{binascii.crc32(text.encode()):08x}" if text else ""


def _namespace(kind: str) -> int | None:
    try:
        return os.stat(f"/proc/self/ns/{kind}").st_ino
    except OSError:
        return None


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
