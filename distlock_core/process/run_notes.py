"""Run notes: what was acquired on this machine, noted in its state directory.

After a reboot nothing else proves that a record in etcd was written by this machine, and not by a clone of it, or by a
container or pod of the same name: those have no note. A note is a small file named by the run. It is written before the
record is claimed, removed with the hold, and pruned when it is old. A directory that cannot be written breaks nothing:
then nothing is proved later.
"""

from __future__ import annotations

import json
import os
import time

from distlock_core.process.identity import boot_id

SYSTEM = "/var/lib/distlock"
OLD = 400 * 86400  # seconds after which a note is pruned: of a hold that was ended elsewhere
PRUNED_EVERY = 86400  # seconds between two looks for old notes
PRUNED = "pruned"  # the file whose time says when that was
LONGEST = 4096  # bytes of a note


def directory(given: str | None = None) -> str:
    """The state directory: the one given, else that of $DISTLOCK_STATE_DIR, root's or the user's; "" for none.

    The variable counts for programs that use the library too: all that runs on a machine has one memory.
    """
    given = given or os.environ.get("DISTLOCK_STATE_DIR")
    if given:
        return os.path.abspath(given)
    if os.geteuid() == 0:
        return SYSTEM
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(home, "distlock") if os.path.isabs(home) else ""


def remember(given: str | None, run: str) -> bool:
    """Note that this machine is about to acquire something, under this run. False: that could not be written."""
    path = _path(given, run)
    if not path:
        return False
    try:
        # With the folders above it: a user may have no ~/.local/state, and without a note nothing is proved later.
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, json.dumps({"boot": boot_id(), "machine": _hardware()}).encode())
            os.fsync(descriptor)  # it is needed when the machine comes up again
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return False
    _prune(os.path.dirname(path))
    return True


def boot_of(given: str | None, run: str) -> str | None:
    """The boot in which this machine has noted that run; None where it has no note of it."""
    path = _path(given, run)
    try:
        with open(path, "rb") as file:
            note = json.loads(file.read(LONGEST))
    except (OSError, ValueError):
        return None
    if not isinstance(note, dict) or not _is_this(note.get("machine")):
        return None
    boot = note.get("boot")
    return boot if isinstance(boot, str) and boot else None


def forget(given: str | None, run: str) -> None:
    """The hold of this run has ended."""
    try:
        os.unlink(_path(given, run))
    except (OSError, ValueError):
        pass  # it was not there, or a later look prunes it


def _path(given: str | None, run: str) -> str:
    # What stands in a record may come from anybody.
    is_run = 0 < len(run) <= 64 and all(character in "0123456789abcdef" for character in run)
    home = directory(given) if is_run else ""
    return os.path.join(home, run) if home else ""


def _prune(home: str) -> None:
    mark = os.path.join(home, PRUNED)
    try:
        last = os.stat(mark).st_mtime
    except OSError:
        last = 0.0
    now = time.time()
    if 0 <= now - last < PRUNED_EVERY:
        return
    try:
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        os.utime(mark)
        for name in os.listdir(home):
            path = _path(home, name)
            if path and now - os.lstat(path).st_mtime > OLD:
                os.unlink(path)
    except OSError:
        pass  # somebody else prunes too


def _hardware() -> list[str]:
    """The fixed addresses of this machine's network cards: a copy of its disk does not take them along."""
    found = []
    try:
        for name in os.listdir("/sys/class/net"):
            card = f"/sys/class/net/{name}"
            if os.path.exists(f"{card}/device") and _line(f"{card}/addr_assign_type") == "0":
                found.append(_line(f"{card}/address"))
    except OSError:
        return []
    return sorted(filter(None, found))


def _is_this(cards: object) -> bool:
    """True unless the cards that are noted are surely those of another machine."""
    if not isinstance(cards, list):
        return False
    mine = _hardware()
    return not cards or not mine or bool(set(mine).intersection(map(str, cards)))


def _line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
