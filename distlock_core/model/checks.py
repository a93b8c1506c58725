"""Validation of names, owners, prefixes and keys: each lock has one spelling. Pure."""

from __future__ import annotations

from distlock_core.errors import ConfigError
from distlock_core.hints import RAW_PREFIX, Hint
from distlock_core.model.keys import DEFAULT_MUTEX, LAST_RANK, RESERVED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_LOCKS = 14  # taken together: etcd's default limit is 128 operations in one transaction
LONGEST_NAME = 255  # bytes of UTF-8
LONGEST = 1024  # bytes of UTF-8 in an owner, a prefix or a raw key
LONGEST_SHOWN = 60  # characters of a wrong value in a message
QUOTES = ('""', "''", "``", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb")
# Letters, marks or symbols in Unicode, but invisible on a terminal: fillers, joiners, variation selectors.
BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0") | {
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xE0100, 0xE01F0)),
}


def check_name(name: str, mutex: str = DEFAULT_MUTEX) -> str:
    """Return `name` if it is a valid name of a lock. Raises `ConfigError` with the reason if not."""
    if not name:
        raise ConfigError("the lock's name is empty")
    if "/" in name:
        raise ConfigError(f"illegal lock name {_shown(name)}: it must not contain '/'")
    if name.startswith(RESERVED) or name == mutex:
        raise ConfigError(f"illegal lock name {_shown(name)}: reserved; a name does not begin with '{RESERVED}'")
    check_plain(name, "lock name")
    return _check_length(name, "lock name", LONGEST_NAME)


def check_names(names: Sequence[str], mutex: str = DEFAULT_MUTEX) -> Sequence[str]:
    """Return the names of locks that are taken together, if they are valid. Raises `ConfigError`."""
    for place, name in enumerate(names):
        if check_name(name, mutex) in names[:place]:
            raise ConfigError(f"the lock {_shown(name)} is named twice: name it once")
    if len(names) > MOST_LOCKS:
        raise ConfigError(f"{len(names)} locks are named: at most {MOST_LOCKS} can be taken together")
    return names


def check_key(key: str) -> str:
    """Return `key` if it is a valid raw key in etcd. Raises `ConfigError`."""
    if not key.strip("/"):
        raise ConfigError(f"illegal key {_shown(key)}: it is empty")
    return _check_length(check_plain(key, "key"), "key")


def check_owner(owner: str) -> str:
    """Return `owner` if it is valid. Raises `ConfigError`."""
    if not owner:
        raise ConfigError("the owner (id) is empty")
    if ";" in owner:
        raise ConfigError(f"illegal owner (id) {_shown(owner)}: it must not contain ';'")
    return _check_length(check_plain(owner, "owner (id)"), "owner (id)")


def check_rank(rank: int) -> int:
    """Return `rank` if it is valid. Raises `ConfigError`."""
    if type(rank) is not int or not 0 <= rank <= LAST_RANK:
        raise ConfigError(f"rank: expected a whole number from 0 to {LAST_RANK}, found {ascii(rank)[:LONGEST_SHOWN]}")
    return rank


def check_prefix(prefix: str, *, raw: bool = False) -> str:
    """Return `prefix` if it is valid for a realm: it begins and ends with one `/`, and has no empty part.

    With `raw` any prefix but an empty one is valid, as in the Go original. Raises `ConfigError`.
    """
    if not prefix:
        raise ConfigError("the prefix is empty: a realm needs keys of its own")
    _check_length(_check_no_controls(prefix, "prefix"), "prefix")
    if raw:
        return prefix
    check_plain(prefix, "prefix")
    parts = [part for part in prefix.split("/") if part]
    right = "/".join(["", *parts, ""])
    if not parts or prefix != right:
        instead = f": write {_shown(right)}" if parts else ""
        raise ConfigError(
            f"illegal prefix {_shown(prefix)}: it must begin and end with one '/', without an empty part{instead}",
            hints=[Hint(RAW_PREFIX, setting="raw_prefix")],
        )
    return prefix


def check_text(text: str, what: str) -> str:
    """Return free text (a reason, a value) if it can be stored in etcd. Raises `ConfigError`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"illegal {what} {_shown(text)}: it is not valid UTF-8") from None
    return text


def check_plain(text: str, what: str) -> str:
    """Return `text` if it cannot be mistaken for another one. Raises `ConfigError`.

    It has no control or invisible characters, no leading or trailing blanks, and no quotes around it.
    """
    _check_no_controls(text, what)
    if not (text.isascii() and text.isprintable()):
        for character in text:
            if not character.isprintable() or character in BLANKS:
                raise ConfigError(
                    f"illegal {what} {_shown(text)}: it has an invisible character in it (U+{ord(character):04X})"
                )
        import unicodedata

        if not unicodedata.is_normalized("NFC", text):
            raise ConfigError(
                f"illegal {what} {_shown(text)}: its accents are characters of their own; write it composed (NFC)"
            )
    if text != text.strip():
        raise ConfigError(f"illegal {what} {_shown(text)}: it begins or ends with white space")
    if len(text) > 1 and text[0] + text[-1] in QUOTES:
        raise ConfigError(f"illegal {what} {_shown(text)}: the quotes around it would be part of it; leave them out")
    return text


def _check_length(text: str, what: str, longest: int = LONGEST) -> str:
    if len(text.encode()) > longest:
        raise ConfigError(f"illegal {what} {text[:20]!a}...: longer than {longest} bytes")
    return text


def _check_no_controls(text: str, what: str) -> str:
    check_text(text, what)
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text):
        raise ConfigError(f"illegal {what} {_shown(text)}: it must not contain control characters")
    return text


def _shown(text: str) -> str:
    return ascii(text)[:LONGEST_SHOWN]
