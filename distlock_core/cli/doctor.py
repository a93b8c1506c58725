"""The operation `--doctor`: an examination of etcd, settings, rights and locks. It changes nothing in etcd."""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.cli.acquire import realm
from distlock_core.cli.hint import advice
from distlock_core.cli.json_output import as_json
from distlock_core.cli.outcome import OK, out
from distlock_core.errors import ConfigError
from distlock_core.lock.examine import examine
from distlock_core.lock.realm import parts_of
from distlock_core.settings.salvage import Problems

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.cli.command_line import Request
    from distlock_core.doctor.finding import EffectiveSetting, Examination, Finding

# Exit codes as of a monitoring plugin; 3, for bad usage, is NOT_EXAMINED.
CODES = {"ok": OK, "warn": 1, "bad": 2}
STATUS, CHECK = 8, 22  # columns
WIDTH = STATUS + CHECK  # before a message
SUMMARY = (("bad", "bad"), ("warn", "to be looked at"), ("ok", "ok"), ("skipped", "not checked"))


def doctor(request: Request) -> int:
    """Print the findings. The exit code is 0, 1 with a warning, or 2 if something is bad."""
    settings = request.settings
    found = _examine(request)
    if settings.json:
        done = out(as_json({"doctor": found.fields(advice)}))
    elif found.status == "ok" and settings.quiet:
        done = OK
    else:
        done = out(_text(found, quiet=settings.quiet, verbose=settings.verbose))
    return CODES[found.status] if done == OK else done


def _examine(request: Request) -> Examination:
    from distlock_core.doctor.asking import examine_settings

    settings, (messages, lacks_file) = request.settings, request.problems or Problems()
    if lacks_file and not settings.given & {"endpoints", "discovery_srv"}:
        return examine_settings(settings.prefix, settings, messages)
    knows_realm = not lacks_file or "prefix" in settings.given
    # File and environment name a lock to be acquired, which is shown among the settings.
    names = settings.lock_names if settings.origins.get("lockname") == "--lock-name" else ()
    try:
        return examine(parts_of(realm(request)), names, settings, messages, knows_realm=knows_realm)
    except ConfigError as error:
        return examine_settings(settings.prefix, settings, (*messages, error.message))


def _text(found: Examination, *, quiet: bool, verbose: bool) -> str:
    lines = []
    for one in found.findings:
        if not quiet or one.status in ("warn", "bad"):
            lines += _lines(one)
    if verbose:
        lines += [f"{'':{STATUS}}{'setting':{CHECK}}{_setting(one)}" for one in found.settings]
    counts = [(len(found.having(status)), words) for status, words in SUMMARY]
    summary = ", ".join(f"{count} {words}" for count, words in counts if count)
    return "\n".join([*lines, f"{found.status.upper()}: {summary}"])


def _lines(one: Finding) -> list[str]:
    mark = one.status if one.status in ("ok", "skipped") else one.status.upper()
    lines = [f"{mark:{STATUS}}{one.check:{CHECK}}{printable(one.message)}"]
    if one.advice:
        lines.append(f"{'':{WIDTH}}{printable(one.advice)}")
    return [*lines, *(f"{'':{WIDTH}}{advice(hint)}" for hint in one.hints)]


def _setting(one: EffectiveSetting) -> str:
    from distlock_core.doctor.config_files import shown

    return f"{shown(one)} ({one.where or one.source})"
