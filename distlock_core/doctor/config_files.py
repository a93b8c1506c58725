"""Judgement of settings: the files that hold them, what is wrong with them, where each comes from. Pure functions."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.doctor.finding import BAD, OK, WARN, EffectiveSetting, Finding
from distlock_core.settings.options import BY_KEY, IN_FILE, SETTINGS
from distlock_core.settings.readers import read_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from distlock_core.settings.options import Settings

CONFIG, PASSWORD, KEY = "config_file", "password_file", "key_file"
NAMES = {CONFIG: "config file", PASSWORD: "password file", KEY: "private key"}
ARGUMENT, ENVIRONMENT, FILE, DEFAULT = "argument", "environment", "file", "default"


class FileFacts(Value):
    """A file that settings come from, as this user sees it. `mode` has the permission bits; None if it is not there."""

    check: str
    path: str
    mode: int | None
    owner: str
    group: str
    unreadable: str = ""  # why this user cannot read it
    has_password: bool = False


def judge_file(found: FileFacts) -> Finding:
    """The finding about one file. `load()` warns of one that is too open: that is a finding of its own."""
    what = NAMES[found.check]
    if found.mode is None:
        if found.check == CONFIG:
            return Finding(CONFIG, OK, f"there is no {what} {found.path}", found.path, facts={"exists": False})
        return Finding(found.check, BAD, f"{what} {found.path}: {found.unreadable}", found.path, "correct the path")
    facts: dict[str, Any] = {
        "exists": True,
        "mode": f"{found.mode:04o}",
        "owner": found.owner,
        "group": found.group,
        "has_password": found.has_password,
    }
    words = f"{what} {found.path}: mode {found.mode:04o}, owner {found.owner}:{found.group}; {_readers(found)}"
    if found.unreadable:
        message = f"{words}; this user cannot read it: {found.unreadable}"
        advice = "run as a user who may read it, or give this one the right (a group, mode 0640)"
        return Finding(found.check, BAD, message, found.path, advice, facts=facts)
    return Finding(
        found.check, OK, words + ("; a password is in it" if found.has_password else ""), found.path, facts=facts
    )


def _readers(found: FileFacts) -> str:
    assert found.mode is not None
    if found.mode & 0o004:
        return "everybody may read it"
    group = f" and group {found.group}" if found.mode & 0o040 else ""
    return f"{found.owner}{group} may read it"


def judge_problems(problems: Iterable[str]) -> list[Finding]:
    """A finding for each setting, or source of settings, that is wrong and was left out."""
    advice = "correct it: every other call fails with this error"
    return [Finding("setting", BAD, problem, "", advice) for problem in problems]


def judge_warnings(warnings: Iterable[str]) -> list[Finding]:
    """A finding for each warning that every other call prints."""
    return [Finding("setting", WARN, warning) for warning in warnings]


def effective(settings: Settings, places: Sequence[tuple[str, str]]) -> tuple[EffectiveSetting, ...]:
    """All settings that count, and where each comes from. `places`: key and origin of those that are set."""
    where = dict(places)
    return tuple(_effective(settings, one.key, where.get(one.key, "")) for one in SETTINGS if one.key != "maxtime")


def _effective(settings: Settings, key: str, place: str) -> EffectiveSetting:
    setting = BY_KEY[key]
    # A line of shell may have a secret in it, and so may an endpoint that is refused for the user before its @.
    value = settings.by_key(key)
    hidden = bool(value) and (
        setting.secret or setting.read is read_line or (key == "endpoints" and "@" in "".join(value))
    )
    value = None if hidden else value
    if not place:
        return EffectiveSetting(key, value, DEFAULT, "", hidden)
    source = FILE if place.startswith(IN_FILE) else ENVIRONMENT if place.startswith("DISTLOCK_") else ARGUMENT
    return EffectiveSetting(key, value, source, place.removeprefix(IN_FILE), hidden)


def judge_sources(found: Sequence[EffectiveSetting]) -> Finding:
    """The finding that names the settings that are not defaults, and their sources."""
    given = [one for one in found if one.source != DEFAULT]
    facts = {"settings": len(given)}
    if not given:
        return Finding("settings", OK, "all settings are defaults", facts=facts)
    return Finding("settings", OK, "; ".join(f"{shown(one)} ({one.where})" for one in given), facts=facts)


def shown(one: EffectiveSetting) -> str:
    """`ttl=60`; a secret as `password=***`."""
    if one.is_secret:
        return f"{one.key}=***"
    value = ",".join(one.value) if isinstance(one.value, list) else one.value
    return f"{one.key}={ascii(value)[1:-1] if isinstance(value, str) else value}"
