"""`distlock-puppet resource`, for the native type: a request as one line of JSON on stdin, the answer on stdout.

Fields of the request: `want` ("locked", "unlocked", "failed" or "run_lock"), `settings` by config key (with
`lock_names`, a list, instead of `lockname` for several locks), `owner` (if the settings have no `id`), `run` (pid of
Puppet's run), and optionally `dry_run`, `bound` (the lock ends with the run) and `force`.
With `more` another request may follow the answer: the process waits for it until stdin ends.

The answer is an object under the key `want`. It has `changed`, `owner`, the `holder` (of several locks the first one,
and all of them in `holders`), the hold `before` that was taken over, `waits` (the obstacle that a real run would wait
for), `waited` (the story of a real wait), and `around` (the hold of a command around this run, which is left alone).
"failed" keeps or freezes the lock, as the setting `on_failure` says, with the reason in the field `failed`; its answer
has the `holder`. "run_lock" acquires nothing: its answer is the `story` of this run's wait in prerun_command, null
without one.

Nothing of it appears in a process list. The place in the queue is given up when the run ends.
"""

from __future__ import annotations

import json
import sys

from distlock_core.adapters import acquire, release
from distlock_core.adapters.advice import PUPPET
from distlock_core.adapters.run_holds import bound_to, holds_around
from distlock_core.adapters.settings import LOCK_NAMES, read_settings
from distlock_core.cli.acquire import until
from distlock_core.cli.json_output import as_json, holder_json
from distlock_core.cli.outcome import OK, fail, out
from distlock_core.cli.signals import interrupt_on_signals
from distlock_core.connection import connect_arguments, realm_of
from distlock_core.errors import Cancelled, ConfigError, DistlockError
from distlock_core.lock.wait_story import Waited
from distlock_core.model.wording import are_held_by
from distlock_core.process.identity import start_time
from distlock_core.settings.options import SETTINGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from distlock_core.lock.realm import Realm
    from distlock_core.model.state import Holder
    from distlock_core.settings.options import Settings

_REALMS: dict[str, Realm] = {}
LONGEST_REQUEST = 2**20  # bytes
FIELDS: dict[str, type] = {
    "want": str,
    "settings": dict,
    "owner": str,
    "dry_run": bool,
    "run": int,
    "bound": bool,
    "force": bool,
    "failed": str,
    "more": bool,
}


def run() -> int:
    """Carry out the requests on stdin, and return the exit code."""
    requests = sys.stdin.buffer
    try:
        line = requests.readline(LONGEST_REQUEST)
        while True:
            request = read(line)
            code = out(as_json({request["want"]: ANSWERS[request["want"]](request)}))
            line = requests.readline(LONGEST_REQUEST) if request.get("more") and code == OK else b""
            if not line:
                return code
    except Cancelled as error:
        error.message = "called off before the lock was taken; nothing is left behind"
        return fail(error, json=True, to_stderr=False)
    except DistlockError as error:
        error.message, error.hints = PUPPET.said(error), ()
        return fail(error, json=True, to_stderr=False)
    except Exception as error:  # noqa: BLE001 - Puppet's report has one line for any error
        return fail(DistlockError(f"{type(error).__name__}: {error}"), json=True, to_stderr=False)


def read(line: bytes) -> dict[str, Any]:
    """Parse one request. Raises `ConfigError`."""
    try:
        request = json.loads(line)
    except ValueError:
        request = None
    if not isinstance(request, dict) or request.get("want") not in tuple(ANSWERS):
        raise ConfigError("stdin: expected one line of JSON, with a `want` of locked, unlocked, failed or run_lock")
    for field, value in request.items():
        if field not in FIELDS or type(value) is not FIELDS[field]:  # a bool is an int to isinstance()
            raise ConfigError(f"stdin: {field!a} is unknown, or of the wrong type")
    names = [request.get("settings", {}).get(word) for word in ("lockname", LOCK_NAMES)]
    if not request.get("owner") or not request.get("run") or not any(names):
        raise ConfigError("stdin: `owner`, `run` and, among the settings, `lockname` are required")
    unknown = set(request["settings"]) - {setting.key for setting in SETTINGS} - {LOCK_NAMES}
    if unknown:
        raise ConfigError(f"stdin: there is no setting {min(unknown)!a}")
    return request


def _settings(request: dict[str, Any]) -> Settings:
    return read_settings({LOCK_NAMES: None, **request["settings"]}, request["owner"])


def _locked(request: dict[str, Any]) -> dict[str, Any]:
    settings = _settings(request)
    run = request["run"]
    started = start_time(run)
    if started is None:
        raise ConfigError(f"stdin: there is no process {run}")
    taken = acquire.take(
        settings,
        run=run,
        bound=request.get("bound", False),
        dry_run=request.get("dry_run", False),
        cancel=until(interrupt_on_signals(), (run, started)),
        children=True,
        realm=_realm(settings),
    )
    return {
        "changed": taken.changed,
        "owner": settings.id,
        **_shown(taken.holders),
        "before": _first(taken.before),
        "waits": "" if taken.waits is None else PUPPET.said(taken.waits),
        "waited": None if taken.waited is None else {**taken.waited.fields(), "story": str(taken.waited)},
    }


def _unlocked(request: dict[str, Any]) -> dict[str, Any]:
    settings = _settings(request)
    force, run = request.get("force", False), request["run"]
    realm = _realm(settings)
    around = () if force else holds_around(settings.lock_names, realm)
    ended: tuple[Holder, ...] = ()
    if not around:
        ended = release.release(settings, run=run, force=force, dry_run=request.get("dry_run", False), realm=realm)
    return {"changed": bool(ended), "owner": settings.id, **_shown(ended), "around": _first(around)}


def _failed(request: dict[str, Any]) -> dict[str, Any]:
    ended = release.end_failed(_settings(request), request.get("failed", ""), run=request["run"])
    return _shown(ended)


def _run_lock(request: dict[str, Any]) -> dict[str, Any]:
    settings = _settings(request)
    states = realm_of(settings).show_all(settings.lock_names)
    holders = [holder for state in states for holder in [bound_to(request["run"], state)] if holder is not None]
    waited = Waited.read(holders[0].record.details.get("waited")) if holders else None
    return {"story": None if waited is None else f"{are_held_by(holders)}, {waited}"}


def _realm(settings: Settings) -> Realm:
    """The realm of these settings. A request that follows another one uses its connection."""
    reach = repr(connect_arguments(settings))
    if reach not in _REALMS:
        _REALMS[reach] = realm_of(settings)
    return _REALMS[reach]


def _shown(holders: Sequence[Holder]) -> dict[str, Any]:
    return {"holder": _first(holders), "holders": [holder_json(holder) for holder in holders]}


def _first(holders: Sequence[Holder]) -> dict[str, Any] | None:
    return holder_json(holders[0]) if holders else None


ANSWERS = {"locked": _locked, "unlocked": _unlocked, "failed": _failed, "run_lock": _run_lock}
