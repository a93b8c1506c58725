"""Readers: each turns a text, or a value of a config file, into a setting's value, or raises what it expects."""

from __future__ import annotations

from distlock_core.errors import ConfigError
from distlock_core.model.ttl import LONGEST_BEAT, LONGEST_TTL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LONGEST = 10**9  # seconds; a larger number is a mistake
LONGEST_DIGITS = 100
BETWEEN_NAMES = "\n"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds
GO_UNITS = {"\0": 0.001, "s": 1, "m": 60, "h": 3600}  # seconds; \0 stands for ms


def read_seconds(text: object) -> float:
    """A number of seconds, or a duration (10m, 2h, 1h30m). Fractions are allowed; negative is forever."""
    numbers = [_decimal(digits, factor) for digits, factor in _parts(text, UNITS)]
    seconds = sum(LONGEST + 1 if number is None else number for number in numbers)
    if abs(seconds) > LONGEST:
        raise ConfigError("a number of seconds")
    return seconds


def read_span(text: object) -> float:
    """A number of seconds above 0."""
    number = read_seconds(text)
    if number <= 0:
        raise ConfigError("a number of seconds above 0")
    return number


def _parts(text: object, units: Mapping[str, float]) -> list[tuple[object, float]]:
    """The numbers of a duration with their units in seconds: of 10m, and of 1h30m or 2d07h, as distlock prints it."""
    if not isinstance(text, str) or text.strip()[-1:] not in units:
        return [(text, 1)]
    parts: list[tuple[object, float]] = []
    digits = ""
    for one in text.strip():
        if one not in units:
            digits += one
            continue
        later = bool(parts)
        if later and (units[one] >= parts[-1][1] or not digits[:1].isdigit() or str(parts[0][0])[:1] in ("-", "+")):
            return [(None, 1)]
        parts.append((digits.lstrip("0") or "0" if later else digits, units[one]))
        digits = ""
    return parts


def _decimal(text: object, factor: float = 1) -> float | None:
    """A decimal number. Not 010, 0x10, 1_000 or nan, which programs read differently."""
    if isinstance(text, str):
        digits = text.strip()
        if not digits or not set(digits) <= set("0123456789.eE+-") or _has_leading_zero(digits):
            return None
    elif isinstance(text, bool) or not isinstance(text, (int, float)):
        return None
    try:
        number = float(text) * factor
    except (ValueError, OverflowError):
        return None
    return None if number != number else number


def _has_leading_zero(digits: str) -> bool:
    unsigned = digits.lstrip("+-")
    return unsigned[:1] == "0" and unsigned[1:2].isdigit()


def read_go_duration(text: object) -> float:
    """A duration in Go's form, `5s`, `500ms` or `1m30s`; a bare integer is in nanoseconds, as in Go."""
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= LONGEST_DIGITS:
        text = 0 if _has_leading_zero(text) else int(text)
    if isinstance(text, int) and not isinstance(text, bool) and 0 < text <= LONGEST * 10**9:
        return text / 1e9
    if isinstance(text, str) and "\0" not in text and text[-1:] in GO_UNITS:
        numbers = [_decimal(digits, factor) for digits, factor in _parts(text.replace("ms", "\0"), GO_UNITS)]
        seconds = sum(0 if number is None else number for number in numbers)
        if None not in numbers and 0 < seconds <= LONGEST:
            return seconds
    raise ConfigError("a duration like 5s")


def read_whole(low: int, high: int) -> Callable[[object], int]:
    def read(text: object) -> int:
        number = _whole(text)
        if number is None or not low <= number <= high:
            raise ConfigError(f"a whole number from {low} to {high}")
        return number

    return read


def read_whole_seconds(text: object) -> int:
    """A whole number of seconds, or a duration (10m, 2h, 1h30m), up to a year."""
    return _whole_seconds(text, LONGEST_TTL)


def read_beat(text: object) -> int:
    """The same, up to a day."""
    return _whole_seconds(text, LONGEST_BEAT)


def _whole_seconds(text: object, longest: int) -> int:
    numbers = [(_whole(digits), int(factor)) for digits, factor in _parts(text, UNITS)]
    seconds = sum(-1 if number is None else number * factor for number, factor in numbers)
    if any(number is None for number, _ in numbers) or not 1 <= seconds <= longest:
        raise ConfigError(f"a whole number of seconds from 1 to {longest}")
    return seconds


def _whole(text: object) -> int | None:
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        return None
    if isinstance(text, int):
        return text
    digits = text.strip()
    # Python itself refuses to read a number of thousands of digits.
    fine = digits.isascii() and digits.isdigit() and len(digits) <= LONGEST_DIGITS and not _has_leading_zero(digits)
    return int(digits) if fine else None


def read_bool(text: object) -> bool:
    word = str(text).strip().lower()
    if word in ("true", "t", "1", "yes", "on"):
        return True
    if word in ("false", "f", "0", "no", "off"):
        return False
    raise ConfigError("true or false")


def read_text(text: object) -> str:
    """A text. Not a number: YAML would have turned 010, 1.10 or 1_000 into another one."""
    if not isinstance(text, str):
        number = isinstance(text, (int, float)) and not isinstance(text, bool)
        raise ConfigError("a string, in quotes (YAML may have rewritten it)" if number else "a string")
    return text


def read_names(text: object) -> str:
    """The name of a lock, or several, as a list or one a line: a name may hold a comma, but no line break."""
    if not isinstance(text, list):
        return read_text(text)
    if any(isinstance(name, str) and BETWEEN_NAMES in name for name in text):
        raise ConfigError("one name in each item")
    return BETWEEN_NAMES.join(map(read_text, text))


def read_path(text: object) -> str:
    """The name of a file."""
    path = read_text(text)
    if "\0" in path:
        raise ConfigError("the name of a file")
    return path


def read_bool_or_path(text: object) -> bool | str:
    """A flag that can name a file."""
    try:
        return read_bool(text)
    except ConfigError:
        if text == "":
            raise ConfigError("the name of a file") from None
        return read_path(text)


def read_line(text: object) -> str:
    """A line that a shell reads. An empty one would be true without a check."""
    line = read_text(text)
    if not line.strip() or "\0" in line:
        raise ConfigError("a line of shell")
    return line


def absolute(path: str, what: str) -> str:
    """Return the absolute path. Raises `ConfigError` for a relative one if the current directory has been removed."""
    import os

    try:
        return os.path.abspath(path)
    except OSError:
        raise ConfigError(
            f"{what} {path}: it is relative, and the current directory is there no more; name it from / on"
        ) from None


def read_span_or_none(text: object) -> float:
    """A number of seconds, 0 or more."""
    number = read_seconds(text)
    if number < 0:
        raise ConfigError("a number of seconds, 0 or more")
    return number


def read_endpoints(text: object) -> list[str]:
    items = text.split(",") if isinstance(text, str) else text
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ConfigError("a list of URLs, or URLs separated by commas")
    return [item.strip() for item in items if item.strip()]


def read_windows(text: object) -> str:
    """Times at which a lock may be acquired, as a text or a list of texts: see `model/window_syntax.py`."""
    from distlock_core.model.window_syntax import EXAMPLE, parse_windows

    items = [text] if isinstance(text, str) else text
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"{EXAMPLE}, or a list of them")
    return parse_windows(", ".join(items)).text


def read_choice(*words: str) -> Callable[[object], str]:
    def read(text: object) -> str:
        if text not in words:
            raise ConfigError(" or ".join(words))
        return str(text)

    return read


def read_password(text: object) -> str:
    """A password. Not a number: YAML reads 0123 without quotes as 83."""
    if not isinstance(text, str):
        raise ConfigError("a string, in quotes")
    return text


def read_user(text: object) -> str:
    """A user of etcd. Not `name:password` as in etcdctl, since options are visible in the process list."""
    name = read_text(text)
    if ":" in name:
        raise ConfigError("a user's name alone (its password: DISTLOCK_PASSWORD, or a key of the config file)")
    return name


def utf8(text: str) -> str:
    """An argument or a variable, decoded as UTF-8 whatever the locale is."""
    if text.isascii():
        return text
    import os

    return os.fsencode(text).decode("utf-8", "surrogateescape")
