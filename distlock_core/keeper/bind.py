"""Binding of a held lock to a process: a keeper takes it over, and releases it when the process ends."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.errors import ConfigError
from distlock_core.keeper import pid_keeper
from distlock_core.keeper.handover import part_with
from distlock_core.model.ttl import DEFAULT_TTL
from distlock_core.process.fate import pid_is_free
from distlock_core.process.identity import proc_shows_own_namespace, start_time
from distlock_core.settings.origin import origin
from distlock_core.settings.readers import absolute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from distlock_core.lock.lock import Lock
    from distlock_core.model.state import Holder
    from distlock_core.settings.options import Settings


class Binding(Value):
    """The process to which a lock is bound, identified by pid and start time, and the keeper's settings.

    With a `family` the lock is also bound to all children of that process: see `WhileAlive`.
    """

    pid: int
    start: int
    ttl: int
    refresh: float | None
    on_loss: str
    kill_after: float
    log_file: str | None
    family: int | None = None
    children: bool = False  # also kept while a descendant of the process lives
    waited: Mapping[str, Any] | None = None  # the wait for the lock, for the record
    on_failure: str = "release"  # the setting: what to do if the process ends, and nobody has noted a success
    on_lost: str | None = None  # the hooks
    on_released: str | None = None
    hook_timeout: float = 0.0

    @classmethod
    def of(cls, settings: Settings, family: int | None = None) -> Binding:
        """The binding for `while_pid` and its related settings. Raises `ConfigError` for a bad process or log file."""
        pid = settings.while_pid
        if pid is None:
            raise ConfigError("while_pid: no process is named")
        if not proc_shows_own_namespace():
            where = origin(settings, "while_pid")
            raise ConfigError(f"{where}: /proc is missing, or belongs to another pid namespace: mount it anew")
        started = start_time(pid)
        if started is None:
            hidden = "" if pid_is_free(pid) else " that can be seen (hidepid?)"
            raise ConfigError(f"{origin(settings, 'while_pid')}: there is no process {pid}{hidden}")
        log_file = settings.log_file
        if log_file:
            where = origin(settings, "log_file")
            log_file = absolute(log_file, where)
            _check_writable(log_file, where)
        on_loss = settings.on_loss or "continue"
        ttl, refresh = settings.ttl or DEFAULT_TTL, settings.refresh
        return cls(pid, started, ttl, refresh, on_loss, settings.time_to_end, log_file, family)


def hand_to_keeper(
    lock: Lock, binding: Binding, connection: Mapping[str, Any], check: Callable[[], None] = lambda: None
) -> tuple[Holder, ...]:
    """Hand a held lock to a new keeper, and return the hold of each. Raises `DistlockError`; then nothing is locked.

    `check` may raise, to cancel this.
    """
    plan = binding._asdict()
    try:
        check()
        keeper_pid = pid_keeper.start(lock, connection, plan)
    except BaseException:
        lock.release()
        raise
    holders = lock.holders
    part_with(lock)
    noted = pid_keeper.noted(plan, keeper_pid)
    return tuple(
        holder._replace(record=holder.record._replace(details={**holder.record.details, **noted})) for holder in holders
    )


def _check_writable(path: str, where: str) -> None:
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise ConfigError(f"{where} {path}: cannot be written: {error.strerror}") from None
