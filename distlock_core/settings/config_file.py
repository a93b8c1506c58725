"""Parsing of the config file: its keys, and its values as the texts that were written."""

from __future__ import annotations

import sys

from distlock_core.errors import ConfigError
from distlock_core.settings import plain_yaml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST = 8 * 2**20  # bytes; a larger file is no config file
TEXT_TAG = "tag:yaml.org,2002:str"
MAP_TAG, LIST_TAG = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"


class Unreadable(ConfigError):
    """The file exists but cannot be read: its settings are unknown."""


def read(path: str) -> dict[str, Any]:
    """Return the value of each key in the file: a text, a list of texts, or None if it is empty.

    Other values become empty lists and objects, which the reader of the setting refuses. Raises `ConfigError` with the
    file and the line, `Unreadable` if the file cannot be read, and `FileNotFoundError`.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Unreadable(f"config file {path}: cannot be read: {reason}") from None
    if len(content) > LARGEST:
        raise ConfigError(f"config file {path}: it is larger than {LARGEST // 2**20} MiB, so not a config file")
    try:
        entries: list[plain_yaml.Entry] = plain_yaml.read(content.decode())
    except (UnicodeDecodeError, plain_yaml.NotPlain):
        entries = _read_with_pyyaml(path, content)
    found: dict[str, Any] = {}
    for key, value in entries:
        if key in found:
            raise ConfigError(f"config file {path}: the key {_shown(key)} is there twice: leave one of them")
        found[key] = value
    return found


def _read_with_pyyaml(path: str, content: bytes) -> list[Any]:
    try:
        import yaml
    except ImportError:
        raise Unreadable(
            f"config file {path}: it is not in the plain form (key: value, lists, quotes, comments), and PyYAML, which "
            f"reads the rest of YAML, is missing in {sys.executable}"
        ) from None
    try:
        # The nodes as written: a loader would read 010 as 8, and keep only one of two equal keys.
        document = yaml.compose(content, yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        import re

        # The quoted text may be a password: YAML reads `password: !secret` as a tag. A single character is no secret.
        problem = re.sub(r"'[^']{3,}'", "'...'", str(problem))
        raise ConfigError(f"config file {path}{where}: not valid YAML: {problem}") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"config file {path}: not valid YAML: {type(error).__name__}") from None
    if document is None or _text(path, document) is None:
        return []
    if not isinstance(document, yaml.MappingNode):
        kind = "list" if isinstance(document, yaml.SequenceNode) else "text"
        raise ConfigError(f"config file {path}: expected 'key: value' lines, found a {kind}")
    # A key that is no text is unknown in any case.
    keys = [_text(path, key) for key, _ in document.value]
    values = [_value(path, value) for _, value in document.value]
    return [(key if isinstance(key, str) else ascii(key), value) for key, value in zip(keys, values)]


def _value(path: str, node: Any) -> Any:
    if node.id == "sequence" and node.tag == LIST_TAG:
        return [_text(path, item) for item in node.value]
    return _text(path, node)


def _text(path: str, node: Any) -> Any:
    """A scalar as it was written; an empty list or object for a nested value."""
    if node.id == "sequence" and node.tag == LIST_TAG:
        return []
    if node.id == "mapping" and node.tag == MAP_TAG:
        return {}
    if node.id != "scalar" or node.tag != TEXT_TAG:
        where = node.start_mark.line + 1
        raise ConfigError(
            f"config file {path} line {where}: not valid YAML here: a tag (!...) has no meaning; quote it"
        )
    is_null = node.style is None and node.value in plain_yaml.NULLS
    return None if is_null else node.value


def line_of(path: str, key: str) -> int | None:
    """Return the number of the line that sets this key, None if it is not found."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.partition(":")[0].strip("\ufeff \t'\"") == key:
                    return number
    except OSError:
        pass
    return None


def _shown(key: str) -> str:
    # Up to a colon only: `password:secret` without a blank is a key too.
    return ascii(key.partition(":")[0])[:60]
