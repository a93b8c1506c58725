"""NotifySocket: the socket for a command's sd_notify(3) messages, with the sender of each."""

from __future__ import annotations

import os
import socket
import stat
import struct

from distlock_core.base.value import Value
from distlock_core.errors import DistlockError
from distlock_core.process.identity import stat_of
from distlock_core.process.table import descends_from

CREDENTIALS = struct.Struct("3i")  # pid, uid, gid, as the kernel gives them
LONGEST = 65536  # bytes of a message
LONGEST_PATH = 107  # bytes of a socket's address
FOLDER = "distlock-notify"


class Message(Value):
    """A message from a process of this user, or from a descendant. From any other sender, `lines` is empty."""

    lines: list[str]
    sender: int  # its pid, 0 where it has none here

    @property
    def is_from_tree(self) -> bool:
        """True if the sender is provably a descendant of this process, and alive."""
        return self.sender > 0 and descends_from(self.sender, os.getpid())


class NotifySocket:
    """A datagram socket in a folder that no other user may enter, so that none can send to it or fill it up.

    So a process of the command that has changed its user cannot send to it either, unless it is root.
    """

    def __init__(self) -> None:
        """Raises `DistlockError` if it cannot be made."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self.path = self._bind()
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self.socket.setblocking(False)
        except BaseException:
            self.socket.close()
            raise

    def _bind(self) -> str:
        problem = ""
        for base in _bases():
            _remove_leftovers(base)
            folder = os.path.join(base, f"{FOLDER}-{_me()}-{os.urandom(8).hex()}")
            path = os.path.join(folder, "socket")
            if len(os.fsencode(path)) > LONGEST_PATH:
                continue
            try:
                os.mkdir(folder, 0o700)
                os.chmod(folder, 0o700)  # independent of the umask
                self.socket.bind(path)
            except OSError as error:
                problem = f" ({base}: {error.strerror})"
                _remove(folder)
                continue
            return path
        raise DistlockError(f"there is no folder for the socket of the heartbeat{problem}: see XDG_RUNTIME_DIR, TMPDIR")

    def receive(self) -> Message | None:
        """Return the next message, None if there is none."""
        try:
            # Space for the credentials alone: the kernel closes any descriptors sent with the message.
            text, more, _, _ = self.socket.recvmsg(LONGEST, socket.CMSG_SPACE(CREDENTIALS.size))
        except (BlockingIOError, InterruptedError):
            return None
        pid, uid = 0, -1
        for level, kind, data in more:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                pid, uid, _ = CREDENTIALS.unpack(data[: CREDENTIALS.size])
        message = Message(text.decode("utf-8", "replace").split("\n"), pid)
        return message if uid == os.getuid() or message.is_from_tree else Message([], pid)

    def close(self) -> None:
        self.socket.close()
        _remove(os.path.dirname(self.path))


def _bases() -> list[str]:
    """Candidates for the parent folder, in order of preference: those that are cleared at boot first."""
    mine = os.environ.get("XDG_RUNTIME_DIR", "")
    return [base for base in (mine, "/run", os.environ.get("TMPDIR", ""), "/tmp") if os.path.isdir(base)]  # noqa: S108


def _me() -> str:
    """This process's pid namespace, pid and start time."""
    found = stat_of(os.getpid())
    return f"{_namespace()}-{os.getpid()}-{0 if found is None else found.started}"


def _namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _remove_leftovers(base: str) -> None:
    """Remove the folders of this user's processes that were killed before they could remove them."""
    try:
        names = [name for name in os.listdir(base) if name.startswith(f"{FOLDER}-{_namespace()}-")]
        for name in names:
            folder = os.path.join(base, name)
            found = os.lstat(folder)
            _, pid, started, _ = name[len(FOLDER) + 1 :].split("-")
            process = stat_of(int(pid))
            gone = process is None or process.started != int(started)
            if gone and stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                _remove(folder)
    except (OSError, ValueError):
        pass  # another process's folder, which does no harm


def _remove(folder: str) -> None:
    for remove, path in ((os.unlink, os.path.join(folder, "socket")), (os.rmdir, folder)):
        try:
            remove(path)
        except OSError:
            pass  # it does not exist, or is not empty
