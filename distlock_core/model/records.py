"""The records of many values, parsed together. Pure functions."""

from __future__ import annotations

from distlock_core.base.joined_json import loads_each
from distlock_core.model.record import MOST_DIGITS, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

TOGETHER = 200  # values; one that is not plain makes that many be parsed one by one


def parse_records(values: Sequence[bytes]) -> list[Record]:
    """`Record.parse()` of each value, in a fraction of the time."""
    records: list[Record] = []
    for start in range(0, len(values), TOGETHER):
        some = values[start : start + TOGETHER]
        try:
            records += _plain_records(some)
        except (ValueError, RecursionError):
            records += map(Record.parse, some)
    return records


def _plain_records(values: Sequence[bytes]) -> list[Record]:
    """Raises `ValueError`, `RecursionError` if one of the values is no record, or one with a strange number or REST."""
    fields = [value.decode().split(";", 2) for value in values]
    digits = "".join([seconds for seconds, _, _ in fields])
    if not (digits.isascii() and digits.isdigit()) or max([len(seconds) for seconds, _, _ in fields]) > MOST_DIGITS:
        raise ValueError("no plain number of seconds")
    # The Go original writes the reason as plain text.
    details = loads_each([rest if rest[:1] == "{" else "null" for _, _, rest in fields])
    new = tuple.__new__
    return [
        new(Record, (int(seconds), owner, {"reason": rest} if one is None else one))
        for (seconds, owner, rest), one in zip(fields, details)
    ]
