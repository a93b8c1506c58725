"""A pseudo-terminal with an interactive shell and job control."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence

from tests.support.processes import BOUND, Output, is_stopped, wait_until

CTRL_C, CTRL_Z, CTRL_BACKSLASH, CTRL_D = "\x03", "\x1a", "\x1c", "\x04"
PROMPT = r"\[(\d+)\]> "

# Takes the terminal on its stdin as the controlling one, and becomes the program.
_AT_THE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A program as the leader of a session on a new terminal. All processes of the session are killed at the end."""

    def __init__(self, program: Sequence[str], env: Mapping[str, str], rows: int = 24, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO  # otherwise input would look like output
        attributes[1] &= ~termios.ONLCR
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self.resize(rows, columns)
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _AT_THE_TERMINAL, *program],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=dict(env),
            start_new_session=True,
        )
        os.close(slave)
        self.output = Output(self.master)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, pattern: str, bound: float = BOUND) -> str:
        """Read until the pattern has come; return its first group, or all of it."""
        found = self.output.until(pattern, bound)
        return found.group(1) if found.re.groups else found.group()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        for pid in _members(self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.kill()
        self.process.wait()
        if self.master >= 0:
            self.hang_up()

    def hang_up(self) -> None:
        """Close the terminal, as when its window is closed or the connection to the host breaks."""
        os.close(self.master)
        self.master = -1


class Shell(Terminal):
    """An interactive bash. Its prompt has the exit code of the previous command."""

    def __init__(self, env: Mapping[str, str], rows: int = 24, columns: int = 80) -> None:
        # Without its own line editing, the terminal stays as a command expects it.
        program = ["bash", "--norc", "--noprofile", "--noediting", "-i"]
        super().__init__(program, {**env, "PS1": "[$?]> ", "PS2": "", "HISTFILE": ""}, rows, columns)
        self.prompt()

    def prompt(self) -> int:
        """Wait for the prompt; return its exit code."""
        return int(self.until(PROMPT))

    def foreground(self) -> int:
        """The process group in the foreground: the id of the job's first process."""
        return os.tcgetpgrp(self.master)

    def fg(self, job: int) -> None:
        """Bring the job to the foreground; return when it has the terminal and its first process runs."""
        self.type("fg\n")
        wait_until(lambda: self.foreground() == job and not is_stopped(job), "the job is in the foreground")

    def run(self, line: str) -> int:
        """Type a command, wait for its end, and return its exit code."""
        self.type(line + "\n")
        return self.prompt()


def _members(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.getsid(int(name)) == session:
                    found.append(int(name))
            except (ProcessLookupError, PermissionError):
                pass
    return found
