"""Settings: defaults < config file < environment < command line.

One table names them all: what an option is called, its environment variable, its key in the config file, and how its
text is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from distlock_core.errors import ConfigError
from distlock_core.model import DEFAULT_MUTEX, DEFAULT_PREFIX, check_name, check_owner, check_prefix, check_text

DEFAULT_FILE = "/etc/distlock/distlock.yaml"
LONGEST = 10**9  # seconds; beyond it a number is a slip
LONGEST_DIGITS = 100


def read_seconds(text: object) -> float:
    """A number of seconds; fractions are fine, a negative one means for ever."""
    try:
        number = float(text) if isinstance(text, (str, int, float)) and not isinstance(text, bool) else None
    except (ValueError, OverflowError):
        number = None
    if number is None or number != number or abs(number) > LONGEST:
        raise ConfigError("a number of seconds")
    return number


def read_span(text: object) -> float:
    """A number of seconds above 0."""
    number = read_seconds(text)
    if number <= 0:
        raise ConfigError("a number of seconds above 0")
    return number


def read_go_duration(text: object) -> float:
    """A duration as Go writes it, `5s` or `500ms`; a bare integer counts nanoseconds, as it does there."""
    if isinstance(text, int) and not isinstance(text, bool) and text > 0:
        return text / 1e9
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)):
        if isinstance(text, str) and text.endswith(unit):
            try:
                return read_span(float(text[: -len(unit)]) * factor)
            except ValueError:
                break
    raise ConfigError("a duration like 5s")


def read_whole(low: int, high: int) -> Callable[[object], int]:
    def read(text: object) -> int:
        digits = str(text).strip()
        # Python itself refuses to read a number of thousands of digits.
        whole = not isinstance(text, bool) and digits.isascii() and digits.isdigit() and len(digits) <= LONGEST_DIGITS
        if not whole or not low <= int(digits) <= high:
            raise ConfigError(f"a whole number from {low} to {high}")
        return int(digits)

    return read


def read_bool(text: object) -> bool:
    word = str(text).strip().lower()
    if word in ("true", "t", "1", "yes", "on"):
        return True
    if word in ("false", "f", "0", "no", "off"):
        return False
    raise ConfigError("true or false")


def read_text(text: object) -> str:
    # YAML reads a bare 7 as a number, and a lock may well be called that.
    if not isinstance(text, (str, int, float)) or isinstance(text, bool):
        raise ConfigError("a string")
    return str(text)


def read_endpoints(text: object) -> list[str]:
    items = text.split(",") if isinstance(text, str) else text
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ConfigError("a list of URLs, or URLs separated by commas")
    return [item.strip() for item in items if item.strip()]


class Setting(NamedTuple):
    """One setting. `key` is its word in the config file and, in capitals, in the environment."""

    option: str
    key: str
    read: Callable[[object], Any]
    default: Any
    help: str
    flag: bool = False
    scope: str = "option env file"
    placeholder: str = ""

    @property
    def variable(self) -> str:
        return "DISTLOCK_" + self.key.upper()


SETTINGS = (
    Setting("lock-name", "lockname", read_text, "", "name of the lock", placeholder="NAME"),
    Setting("reason", "reason", read_text, "", "why; shown to everybody who waits", placeholder="TEXT"),
    Setting(
        "timeout",
        "timeout",
        read_seconds,
        -1.0,
        "wait at most so long; 0: do not wait, -1: for ever",
        placeholder="SECONDS",
    ),
    Setting("nowait", "nowait", read_bool, False, "do not wait; the same as --timeout=0", flag=True),
    Setting("endpoints", "endpoints", read_endpoints, None, "etcd members, separated by commas", placeholder="URLS"),
    Setting(
        "prefix", "prefix", read_text, DEFAULT_PREFIX, "realm: what all its keys in etcd begin with", placeholder="TEXT"
    ),
    Setting(
        "id",
        "id",
        read_text,
        None,
        "owner; the same owner may enter its own lock again, and --unlock refuses another's",
        placeholder="OWNER",
    ),
    Setting("slots", "slots", read_whole(1, 1000), 1, "so many may hold the lock at once", placeholder="N"),
    Setting(
        "busy-exit-code",
        "busy_exit_code",
        read_whole(0, 255),
        1,
        "exit code for: held by another, or timed out",
        placeholder="N",
    ),
    Setting(
        "connect-timeout", "connect_timeout", read_span, 5.0, "for the first contact with etcd", placeholder="SECONDS"
    ),
    Setting(
        "release-timeout", "release_timeout", read_span, 30.0, "how long a release is tried", placeholder="SECONDS"
    ),
    Setting("json", "json", read_bool, False, "results and errors as JSON", flag=True),
    Setting("quiet", "quiet", read_bool, False, "say nothing but errors", flag=True),
    Setting("verbose", "verbose", read_bool, False, "say what is done", flag=True),
    Setting("config", "config", read_text, DEFAULT_FILE, "config file", scope="option env", placeholder="FILE"),
    Setting("internallock", "internallock", read_text, DEFAULT_MUTEX, "", scope="file"),
    Setting("maxtime", "maxtime", read_go_duration, None, "", scope="file"),
)


class Settings(dict[str, Any]):
    """Every setting by its key. `given` holds the keys that somebody has set, in whatever way."""

    given: frozenset[str] = frozenset()

    def check(self) -> Settings:
        """Raise `ConfigError` for a value that the type alone does not rule out."""
        if self["lockname"]:
            check_name(self["lockname"], self["internallock"])
        if self["id"] is not None:
            check_owner(self["id"])
        check_text(self["reason"], "reason")
        check_prefix(self["prefix"])
        return self


def load(options: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Put the settings together. `options` are those of the command line, by key, read already.

    An empty environment variable counts as unset. Raises `ConfigError`, which names the variable, or the file and key.
    """
    environ = os.environ if environ is None else environ
    variables = _from_environment(environ)
    path = options.get("config", variables.get("config"))
    found = _from_file(path or DEFAULT_FILE, may_be_absent=path is None)
    for layer in (variables, options):
        if "timeout" in layer:
            found.pop("nowait", None)  # the two are one setting: the layer above decides
        found.update(layer)
    settings = Settings({setting.key: found.get(setting.key, setting.default) for setting in SETTINGS})
    settings.given = frozenset(found)
    if "maxtime" in found and "connect_timeout" not in found:
        settings["connect_timeout"] = found["maxtime"]
    if settings["nowait"]:
        settings["timeout"] = 0.0
    return settings.check()


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for setting in SETTINGS:
        text = environ.get(setting.variable, "")
        if text and "env" in setting.scope:
            found[setting.key] = read_setting(setting, text, setting.variable)
    return found


def _from_file(path: str, *, may_be_absent: bool) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        if may_be_absent:
            return {}
        raise ConfigError(f"config file {path}: it is not there") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"config file {path}: cannot be read: {reason}") from None
    document = _parse_yaml(path, content)
    by_key = {setting.key: setting for setting in SETTINGS if "file" in setting.scope}
    found = {}
    for key, value in document.items():
        if key not in by_key:
            known = ", ".join(sorted(by_key))
            raise ConfigError(f"config file {path}: unknown key {key!r}; known are {known}")
        if value is not None and value != "":
            found[key] = read_setting(by_key[key], value, f"config file {path}: {key}")
    return found


def _parse_yaml(path: str, content: bytes) -> dict[Any, Any]:
    import yaml  # only where there is a file to read

    try:
        document = yaml.safe_load(content)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        raise ConfigError(f"config file {path}{where}: not valid YAML: {problem}") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"config file {path}: not valid YAML: {type(error).__name__}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"config file {path}: expected 'key: value' lines, found a {type(document).__name__}")
    return document


def read_setting(setting: Setting, value: object, where: str) -> Any:
    """Read one value. Raises `ConfigError` that says where it stands, what was expected and what was found."""
    try:
        return setting.read(value)
    except ConfigError as expected:
        raise ConfigError(f"{where}: expected {expected}, found {ascii(value)[:60]}") from None
