"""Start of child processes that cannot outlive this process, even if it is killed with SIGKILL."""

from __future__ import annotations

import concurrent.futures
import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Callable

_PR_SET_PDEATHSIG = 1

_Request = tuple["concurrent.futures.Future[subprocess.Popen[bytes]]", Callable[[], "subprocess.Popen[bytes]"]]
_lock = threading.Lock()
_requests: queue.SimpleQueue[_Request] | None = None
_owner_pid = 0


def spawn(argv: Sequence[str], *, env: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start `argv` in a new session, so that Ctrl-C at a terminal reaches only this process, which then ends the child.

    On Linux the kernel kills the child when this process ends for any reason. Raises OSError.
    """
    parent = os.getpid()
    arm = _arm_on_linux(parent)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            argv,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=arm,  # noqa: PLW1509 - two system calls, libc loaded before the fork
        )

    result: concurrent.futures.Future[subprocess.Popen[bytes]] = concurrent.futures.Future()
    _spawner().put((result, start))
    try:
        return result.result()
    except BaseException:
        # A signal's exception has interrupted the start: the child would otherwise remain unknown.
        concurrent.futures.wait([result], timeout=5)
        if result.done() and result.exception() is None:
            result.result().kill()
            result.result().wait()
        raise


def _arm_on_linux(parent: int) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return arm


def _spawner() -> queue.SimpleQueue[_Request]:
    # The kernel signals the end of the *thread* that forked: so one thread forks all children, and never ends.
    global _requests, _owner_pid
    with _lock:
        if _requests is None or _owner_pid != os.getpid():
            _requests, _owner_pid = queue.SimpleQueue(), os.getpid()
            threading.Thread(target=_serve, args=(_requests,), name="etcd-spawner", daemon=True).start()
        return _requests


def _serve(requests: queue.SimpleQueue[_Request]) -> None:
    while True:
        result, start = requests.get()
        try:
            result.set_result(start())
        except BaseException as e:  # noqa: BLE001 - raised in the requesting thread
            result.set_exception(e)
