"""Run notes: files in this machine's state directory about what it has acquired.

After a reboot only such a note proves that a record in etcd was written by this machine, and not by a clone of it, or
by a container or pod of the same name: those have no note. A note is a small file named after the run. It is written
before the record is claimed, removed with the hold, and pruned when it is old. If the directory cannot be written,
everything works, but nothing can be proved later.
"""

from __future__ import annotations

import os
import time

from distlock_core.base import plain_json
from distlock_core.process.identity import boot_id

SYSTEM = "/var/lib/distlock"
OLD = 400 * 86400  # seconds after which a note is pruned: its hold was ended elsewhere
PRUNED_EVERY = 86400  # seconds between two searches for old notes
PRUNED = "pruned"  # the file whose modification time is that of the last search
LONGEST = 4096  # bytes of a note


def directory(given: str | None = None) -> str:
    """The state directory: the given one, else $DISTLOCK_STATE_DIR, else the default for this user; "" for none.

    The variable applies to programs that use the library too, so that all programs of a machine share the notes.
    """
    given = given or os.environ.get("DISTLOCK_STATE_DIR")
    if given:
        return os.path.abspath(given)
    if os.geteuid() == 0:
        return SYSTEM
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(home, "distlock") if os.path.isabs(home) else ""


def remember(given: str | None, run: str) -> bool:
    """Note that this machine is about to acquire a lock under this run. False if the note could not be written."""
    path = _path(given, run)
    if not path:
        return False
    try:
        # With its parents: a user may have no ~/.local/state, and without a note nothing can be proved later.
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, plain_json.dumps({"boot": boot_id(), "machine": _hardware()}).encode())
            os.fsync(descriptor)  # it is needed after a crash of the machine
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return False
    _prune(os.path.dirname(path))
    return True


def boot_of(given: str | None, run: str) -> str | None:
    """The boot in which this machine has noted that run, None if there is no note."""
    path = _path(given, run)
    try:
        with open(path, "rb") as file:
            note = plain_json.loads(file.read(LONGEST))
    except (OSError, ValueError):
        return None
    if not isinstance(note, dict) or not _is_this(note.get("machine")):
        return None
    boot = note.get("boot")
    return boot if isinstance(boot, str) and boot else None


def forget(given: str | None, run: str) -> None:
    """Remove the note of a run whose hold has ended."""
    try:
        os.unlink(_path(given, run))
    except (OSError, ValueError):
        pass  # there is no note, or it will be pruned later


def _path(given: str | None, run: str) -> str:
    # The run may come from a record, which anyone can write.
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
        pass  # another process prunes at the same time


def _hardware() -> list[str]:
    """The permanent addresses of this machine's network cards, which a copy of its disk does not have."""
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
    """True unless the noted cards are certainly those of another machine."""
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
