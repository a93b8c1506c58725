"""`--lock --while-pid PID`: a lock that is kept for as long as another process lives."""

from __future__ import annotations

import os

from distlock_core import keeper
from distlock_core.cli.getting import acquire, cancelled, connection, wanted
from distlock_core.cli.options import Request
from distlock_core.cli.outcome import say
from distlock_core.errors import ConfigError
from distlock_core.whoami import start_time, traces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.model import Holder


def bind(request: Request) -> Holder:
    """Take the lock and leave it to a keeper. Returns the hold. Raises `DistlockError`; nothing is locked then."""
    settings = request.settings
    pid = settings["while_pid"]
    started = start_time(pid)
    if started is None:
        raise ConfigError(f"--while-pid: there is no process {pid}")
    log_file = settings["log_file"]
    if log_file:
        log_file = os.path.abspath(log_file)
        _check_writable(log_file)
    lock = wanted(request, traces(pid))
    interrupt = acquire(request, lock)
    plan: dict[str, Any] = {
        "pid": pid,
        "start": started,
        "ttl": settings["ttl"],
        "refresh": settings["refresh"],
        "on_loss": settings["on_loss"] or "continue",
        "kill_after": settings.kill_after,
        "log_file": log_file,
    }
    try:
        if interrupt.is_set():
            raise cancelled(interrupt)
        keeper_pid = keeper.start(lock, connection(settings), plan)
    except BaseException:
        lock.release()
        raise
    holder = lock.holder
    lock.forget()
    if settings["verbose"]:
        say(f"{lock.name} is kept by process {keeper_pid} while process {pid} lives")
    return holder._replace(record=holder.record._replace(details={**holder.record.details, "keeper": keeper_pid}))


def _check_writable(path: str) -> None:
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise ConfigError(f"--log-file {path}: cannot be written: {error.strerror}") from None
