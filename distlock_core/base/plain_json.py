"""JSON through the standard library's C code alone.

The module `json` loads `re` and `enum` for its Python code, which takes as long as half of bare Python's start. What
the C code does not read as it stands is left to `json`, with its errors: both accept and refuse the same texts.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

BLANKS = " \t\r\n"


def loads(text: str | bytes | bytearray) -> Any:
    """As `json.loads`; bytes are UTF-8. Raises `ValueError`, `RecursionError`."""
    if not isinstance(text, str):
        text = text.decode()
    text = text.strip(BLANKS)
    try:
        value, end = _scan(text, 0)
    except (StopIteration, SystemError):
        end = None  # SystemError: up to Python 3.11 the C code has no error of its own, but takes it from `json`
    if end == len(text):
        return value
    import json

    return json.loads(text)  # says what is wrong, and where


def dumps(value: Any) -> str:
    """As `json.dumps`."""
    return "".join(_encode(value, 0))


def dumps_compact(value: Any) -> str:
    """As `json.dumps`, without blanks, and with letters beyond ASCII as they are."""
    return "".join(_encode_compact(value, 0))


class _Defaults:
    """How `json.loads` reads by default."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__


def _refuse(value: object) -> Any:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_scan: Callable[[str, int], tuple[Any, int]]
_encode: Callable[[Any, int], Iterable[str]]
_encode_compact: Callable[[Any, int], Iterable[str]]


def _with_c_code() -> None:
    """Raises `ImportError`, `AttributeError`, `TypeError`: a Python that has no such code, or another."""
    global _scan, _encode, _encode_compact
    import _json

    _scan = _json.make_scanner(_Defaults)  # type: ignore[arg-type]
    # What stands at the front: no look for circles, and what to do with a value that is no JSON.
    _encode = _json.make_encoder(None, _refuse, _json.encode_basestring_ascii, None, ": ", ", ", False, False, True)
    _encode_compact = _json.make_encoder(None, _refuse, _json.encode_basestring, None, ":", ",", False, False, True)


def _with_json() -> None:
    global _scan, _encode, _encode_compact
    import json

    def scan(text: str, _: int) -> tuple[Any, int]:
        return json.loads(text), len(text)

    def encode(value: Any, _: int) -> Iterable[str]:
        return json.dumps(value)

    def encode_compact(value: Any, _: int) -> Iterable[str]:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    _scan, _encode, _encode_compact = scan, encode, encode_compact


try:
    _with_c_code()
except (ImportError, AttributeError, TypeError):
    _with_json()
