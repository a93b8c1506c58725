"""The operation `--metrics`: the figures of the locks for Prometheus, printed or written into a file."""

from __future__ import annotations

import os
import stat
import time

from distlock_core.base.text import printable
from distlock_core.base.whole_file import write_whole
from distlock_core.cli.acquire import realm
from distlock_core.cli.command_line import Request
from distlock_core.cli.json_output import as_json
from distlock_core.cli.outcome import OK, out, say
from distlock_core.errors import ConfigError, DistlockError, EtcdUnavailable
from distlock_core.model.metrics import Metrics, metrics_without_locks

MODE = 0o644  # node_exporter runs as a user of its own


def metrics(request: Request) -> int:
    """Print or write the figures, and return the exit code.

    If the locks cannot be read, the figures say so: those of an earlier time would look like those of now.
    """
    settings, path = request.settings, request.metrics_file
    if path is not None:
        _check_that_it_can_be_replaced(path)
    try:
        found = realm(request).metrics(settings.lock_names)
    except Exception as error:
        _report_failure(request, metrics_without_locks(settings.prefix, time.time(), reachable=_has_answered(error)))
        raise
    if path is not None:
        _write(path, found)
        if settings.verbose:
            say(f"wrote {printable(path)}")
    if settings.json:
        return out(as_json({"metrics": found.fields()}))
    return out(found.text.rstrip("\n")) if path is None else OK


def _report_failure(request: Request, found: Metrics) -> None:
    if request.metrics_file is not None:
        try:
            _write(request.metrics_file, found)
        except DistlockError as second:
            say(second.message)
    elif not request.settings.json:
        out(found.text.rstrip("\n"))


def _has_answered(error: Exception) -> bool:
    """True if the error is an answer of etcd: it denies the access, for example."""
    return isinstance(error, DistlockError) and not isinstance(error, (EtcdUnavailable, ConfigError))


def _check_that_it_can_be_replaced(path: str) -> None:
    """Refuse what is no plain file, such as /dev/null: root would replace it by one. Raises `ConfigError`."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # it is not there yet; any other problem is reported when it is written
    if not stat.S_ISREG(mode):
        raise ConfigError(
            f"--metrics={printable(path)}: it is no plain file, and would be replaced by one: name another, or leave "
            "out the name to print to stdout"
        )


def _write(path: str, found: Metrics) -> None:
    try:
        write_whole(path, found.text.encode(), MODE)
    except OSError as error:
        raise DistlockError(f"cannot write {printable(path)}: {error.strerror or error}") from None
