"""`--only-if` and `--unless`: is there work for a run? Asked before etcd is, and again once the lock is held."""

from __future__ import annotations

import os

from distlock_core.base.deadline import Patience, Wait, now
from distlock_core.base.plain_signal import signal
from distlock_core.cli import acquire
from distlock_core.cli.command_line import Request
from distlock_core.cli.outcome import OK, not_done, say, tell
from distlock_core.cli.signals import interrupt_on_signals
from distlock_core.errors import Cancelled, DistlockError
from distlock_core.process import nesting
from distlock_core.rollout.needed import Work, first_patience, renewing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from distlock_core.lock.lock import Lock
    from distlock_core.rollout.needed import Meanwhile


class WorkCheck:
    """The checks of one run. `interrupt` is set by signals from now on."""

    def __init__(self, request: Request) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if the caller ignores it, no exit code could be read
        self._request = request
        self.interrupt = interrupt_on_signals()

    def code_before_lock(self) -> int | None:
        """The exit code of a run for which no lock is needed, None if there is work. Errors are reported."""
        wait = Wait.of(self._request.settings.timeout)
        environ = nesting.without_own(os.environ)
        return self._code(environ, first_patience(wait, self.interrupt), self._request.settings.lockname)

    def code_under_lock(self, lock: Lock) -> int | None:
        """The exit code of a run that ends without its command, None if there is still work. Errors are reported.

        The lock is renewed meanwhile, and left held.
        """
        limit = self._request.limit
        patience = Patience(now() + limit, self.interrupt)
        return self._code(
            nesting.for_command(os.environ, lock.holders, lock.lease), patience, lock.name, renewing(lock)
        )

    def _code(
        self, environ: Mapping[str, str], patience: Patience, name: str, meanwhile: Meanwhile | None = None
    ) -> int | None:
        settings = self._request.settings
        try:
            why = Work(settings.only_if, settings.unless, environ).why_not(patience, meanwhile)
        except Cancelled:
            error: DistlockError = acquire.cancelled(self.interrupt)
        except DistlockError as found:
            error = found
            error.message = f"{name}: the command was not started: {error.message}"
        except Exception as found:  # noqa: BLE001 - any error is reported in one line
            error = DistlockError(f"{name}: the command was not started: {type(found).__name__}: {found}")
        else:
            return OK if why and self._report(name, why) else None
        return not_done(error, settings, to_stderr=True)

    def _report(self, name: str, why: str) -> bool:
        settings = self._request.settings
        if settings.json:
            from distlock_core.cli.json_output import as_json

            tell(as_json({"skipped": {"lock": name, "why": why}}))
        elif settings.verbose:
            say(f"{name}: nothing to do: {why}")
        return True
