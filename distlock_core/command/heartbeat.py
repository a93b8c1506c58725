"""Signs of life of a command: systemd's watchdog protocol, or pings to a Node.js module.

Both come over a socket that the command inherits or finds by name. A message raises SIGIO, so that the supervisor only
has to wait for signals.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket

from distlock_core.base.deadline import FOREVER, now
from distlock_core.command.notify_socket import NotifySocket

MOST_AT_ONCE = 1000  # messages, more than a socket buffers: an endless sender must not block all else

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class Heartbeat(Protocol):
        """A protocol for signs of life of a command."""

        @property
        def variables(self) -> Mapping[str, str | None]:
            """The command's environment variables for it; None removes a variable."""

        @property
        def inherited(self) -> int | None:
            """The descriptor that the command inherits, if any."""

        def started(self) -> None:
            """Start the clock: the command runs."""

        def next_moment(self) -> float:
            """The latest moment for the next call of `beat()`, on the `now()` clock."""

        def receive(self) -> None:
            """Process what has arrived. Called before ended children are reaped: then nothing tells whose it was."""

        def beat(self) -> str:
            """Process messages. Return why the command counts as hung, "" if it does not."""

        def close(self) -> None: ...


# Not passed on to a service manager around distlock. A barrier is a descriptor that the sender waits for us to close,
# which we have done. The others would change the service's main process, its stored descriptors or access rules.
NOT_PASSED_ON = ("WATCHDOG", "BARRIER=", "MAINPID", "FDSTORE", "FDNAME=", "FDPOLL=", "NOTIFYACCESS=")


class Watchdog:
    """systemd's protocol: the command sends `WATCHDOG=1` to $NOTIFY_SOCKET at least every $WATCHDOG_USEC.

    Any process of the command's user can send it. Messages for a service manager around distlock (READY, STATUS...)
    are passed on only from descendants of distlock, as the manager itself would accept them only from those.
    """

    inherited = None

    def __init__(self, period: float, outer: str = "") -> None:
        """`period` in seconds; `outer` is distlock's own NOTIFY_SOCKET.

        Raises `DistlockError` if no socket can be made.
        """
        self._period = period
        self._outer = outer
        self._due = FOREVER
        self._more = False
        self._problem = ""
        self._notify = NotifySocket()
        _raise_sigio(self._notify.socket)

    @property
    def variables(self) -> Mapping[str, str | None]:
        # A service manager around distlock sets WATCHDOG_PID to another process: sd_notify would then do nothing.
        return {
            "NOTIFY_SOCKET": self._notify.path,
            "WATCHDOG_USEC": str(int(self._period * 1_000_000)),
            "WATCHDOG_PID": None,
        }

    def started(self) -> None:
        self._due = now() + self._period

    def next_moment(self) -> float:
        return 0.0 if self._more else self._due

    def receive(self) -> None:
        self._more = True
        for _ in range(MOST_AT_ONCE):
            message = self._notify.receive()
            if message is None:
                self._more = False
                break
            if "WATCHDOG=trigger" in message.lines:
                self._problem = "it says itself that it hangs (WATCHDOG=trigger)"
            if "WATCHDOG=1" in message.lines:
                self._due = now() + self._period
            lines = [line for line in message.lines if not line.startswith(NOT_PASSED_ON)]
            if self._outer and any(lines) and message.is_from_tree:
                self._pass_on(lines)

    def beat(self) -> str:
        self.receive()
        return self._problem or (f"no WATCHDOG=1 for {self._period:g}s" if now() >= self._due else "")

    def close(self) -> None:
        """Pass on the last messages, which may be for the manager around distlock, and remove the socket."""
        if self._notify.socket.fileno() < 0:
            return
        try:
            self.receive()
        finally:
            self._notify.close()

    def _pass_on(self, lines: list[str]) -> None:
        address = "\0" + self._outer[1:] if self._outer.startswith("@") else self._outer
        try:
            self._notify.socket.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, address)
        except OSError:
            pass  # a fault of the manager must not affect the command


class NodePings:
    """Node's protocol: a module started as by child_process.fork() answers `{"ping": n}` with `{"pong": n}`."""

    def __init__(self, period: float, limit: float) -> None:
        """A ping every `period` seconds; an answer is due within `limit` seconds."""
        self._period = period
        self._limit = limit
        self._socket, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._received = b""
        self._expected: int | None = None
        self._next = FOREVER
        self._more = False
        _raise_sigio(self._socket)

    @property
    def variables(self) -> Mapping[str, str | None]:
        return {"NODE_CHANNEL_FD": str(self._theirs.fileno()), "NODE_CHANNEL_SERIALIZATION_MODE": "json"}

    @property
    def inherited(self) -> int | None:
        return self._theirs.fileno()

    def started(self) -> None:
        self._theirs.close()
        self._ping()

    def next_moment(self) -> float:
        return 0.0 if self._more else self._next

    def receive(self) -> None:
        pass  # an answer shows by itself whose it is

    def beat(self) -> str:
        problem = self._take_in()
        if problem:
            return problem
        if now() >= self._next:
            if self._expected is not None:
                return f"no pong for {self._limit:g}s"
            self._ping()
        return ""

    def close(self) -> None:
        self._socket.close()
        self._theirs.close()

    def _ping(self) -> None:
        self._expected = int.from_bytes(os.urandom(4), "big")
        self._next = now() + self._limit
        self._sent = now()
        try:
            self._socket.send(json.dumps({"ping": self._expected}).encode() + b"\n")
        except OSError:
            pass  # the module has closed its channel: no pong will come

    def _take_in(self) -> str:
        self._more = True
        for _ in range(MOST_AT_ONCE):
            try:
                data = self._socket.recv(65536)
            except OSError:
                data = b""
            if not data:
                self._more = False
                break
            self._received += data
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            problem = self._answer(line)
            if problem:
                return problem
        return ""

    def _answer(self, line: bytes) -> str:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict) or "pong" not in message:
            return ""  # a message of the module or of Node, not for distlock
        if message["pong"] != self._expected:
            return f"a wrong pong: {line.decode('utf-8', 'replace')[:60]}"
        self._expected = None
        self._next = self._sent + self._period
        return ""


def _raise_sigio(end: socket.socket) -> None:
    end.setblocking(False)
    fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC)
