"""Who I am on this machine, and whether somebody who was here is provably gone."""

from __future__ import annotations

import binascii
import os

from distlock_core.model import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def hostname() -> str:
    """This host's name, without what a record may not hold."""
    return "".join(character for character in os.uname().nodename if character > " " and character != ";") or "unknown"


def new_run() -> str:
    """A random id for one acquisition: 128 bits in hexadecimal."""
    return os.urandom(16).hex()


def traces(pid: int | None = None) -> dict[str, Any]:
    """What a record keeps of a process, so that its death can be proved later. Default: this one."""
    pid = os.getpid() if pid is None else pid
    details: dict[str, Any] = {"host": hostname(), "pid": pid}
    found = {"start": start_time(pid), "boot": boot_id(), "machine": _machine(), "ns": _pid_namespace()}
    details.update((name, value) for name, value in found.items() if value)
    return details


def is_provably_dead(record: Record) -> bool:
    """True only when the process that wrote the record cannot live any more.

    That is: it ran on this machine, and the machine has booted since, or no process has its pid and start time. From
    within another pid namespace (a container beside me) nothing can be said, so the answer is False. While the keeper
    of a bound lock lives, it waits for more than that process: for what the process has left running.
    """
    boot, machine = record.text("boot"), record.text("machine")
    if not boot or record.text("host") != hostname() or machine != (_machine() or ""):
        return False
    if boot != boot_id():
        return True
    pid, start = record.number("pid"), record.number("start")
    if pid is None or start is None or record.number("ns") != _pid_namespace():
        return False
    keeper = record.number("keeper")
    return start_time(pid) != start and (keeper is None or start_time(keeper) is None)


def start_time(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot: with the pid, it names a process once and for all."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
            fields = stat.read().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    # A zombie runs no more: only its parent has not looked yet.
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def boot_id() -> str:
    """The id that the kernel drew at boot, "" where there is none."""
    return _first_line("/proc/sys/kernel/random/boot_id")


def _machine() -> str:
    # Only a checksum: the machine's id is not meant to be shown around.
    text = _first_line("/etc/machine-id")
    return f"{binascii.crc32(text.encode()):08x}" if text else ""


def _pid_namespace() -> int | None:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
