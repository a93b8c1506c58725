"""Starting a program of which a server has the imports behind it: a `Popen` as any other, but for the time it takes."""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT
from tests.support.processes import BOUND, Process

PR_SET_CHILD_SUBREAPER = 36
# No program reads these while it is imported.
READ_LATER = ("DISTLOCK_", "PYTEST_", "RECORDER_FILE")
USUAL = {"stdin": subprocess.DEVNULL, "start_new_session": True}


class Preloaded:
    """Some programs, and a server for them that is started at the first use and ends with this process.

    Only the environment `env` is served, whatever its settings that are read later. What is started in another one, or
    by other means than its own command line, is started as usual.
    """

    def __init__(self, server: Sequence[str], programs: Sequence[Path | str], env: Mapping[str, str]) -> None:
        """`server` is the command line of one: it gets a socket's descriptor as its last argument but `programs`."""
        self._command, self._programs = server, list(map(str, programs))
        self._env = dict(env)
        self._server: _Server | None = None

    def start(self, command: Sequence[str], env: Mapping[str, str], **options: Any) -> Process:
        """Start a command: a `Process` in a session of its own."""
        if command[0] not in self._programs or _read_early(env) != _read_early(self._env):
            return exec_new(command, env, **options)
        if self._server is None:
            self._server = _Server(self._command, self._programs, self._env)
        return _Forked(self._server, command, env=env, **{**USUAL, **options})

    @property
    def pid(self) -> int | None:
        """The server's, while there is one."""
        return None if self._server is None else self._server.pid

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None


def exec_new(command: Sequence[str], env: Mapping[str, str], **options: Any) -> Process:
    """As `start`, without a server."""
    return Process(command, env=env, **{**USUAL, **options})


def module(name: str) -> list[str]:
    """The command line of the server that is `tests.support.preloaded.NAME`."""
    return [sys.executable, "-m", f"tests.support.preloaded.{name}"]


def _read_early(env: Mapping[str, str]) -> dict[str, str]:
    return {word: value for word, value in env.items() if not word.startswith(READ_LATER)}


class _Server:
    """A process that has imported programs."""

    def __init__(self, command: Sequence[str], programs: Sequence[str], env: Mapping[str, str]) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests.settimeout(BOUND)
        with theirs:
            # The names of the programs are for those who look for their processes.
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), *programs],
                env=dict(env),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def fork(self, request: dict[str, Any], streams: Sequence[int]) -> int:
        """The pid of a new child of this process, which runs the program."""
        _adopt_orphans(True)
        try:
            socket.send_fds(self._requests, [json.dumps(request).encode()], streams)
            answer = self._requests.recv(64)
        finally:
            _adopt_orphans(False)
        assert answer, "the server has ended"
        os.waitid(os.P_PID, int(answer), os.WEXITED | os.WNOWAIT | os.WNOHANG)  # fails for what is no child
        return int(answer)

    def stop(self) -> None:
        self._requests.close()
        self._process.wait()


class _Forked(Process):
    """The program of a server, as if it had been started with this command line."""

    def __init__(self, server: _Server, command: Sequence[str], **options: Any) -> None:
        self._server = server
        super().__init__(command, **options)

    def _execute_child(self, *given: Any) -> None:
        """In place of fork and exec, called by the constructor."""
        asked = inspect.signature(_of_popen(self, "_execute_child")).bind(*given).arguments
        streams = (asked["p2cread"], asked["c2pwrite"], asked["errwrite"])
        request = {
            "args": list(map(str, asked["args"])),
            "env": dict(asked["env"]),
            "cwd": str(asked["cwd"] or os.getcwd()),
            "session": asked["start_new_session"],
        }
        try:
            self.pid = self._server.fork(request, [own if fd == -1 else fd for own, fd in enumerate(streams)])
            self._child_created = True
        finally:
            ends = [asked[word] for word in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
            _of_popen(self, "_close_pipe_fds")(*ends)


def _of_popen(process: Process, name: str) -> Any:
    """A method of `Popen` that is no part of its interface."""
    return getattr(super(_Forked, process), name)


def _adopt_orphans(whether: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, int(whether), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
