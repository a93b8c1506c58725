"""Many JSON texts, read in one call of the C code: it is half as long as one call for each."""

from __future__ import annotations

import os

from distlock_core.base import plain_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def loads_each(texts: Sequence[str]) -> list[Any]:
    """The value of each text. Raises `ValueError`, `RecursionError` if one of them may not be JSON.

    The texts are the elements of one array, and a string that no text can contain, because it is random, is between
    each two. A text that is not exactly one value either damages the whole array, or makes another number of elements,
    or moves such a string to another place: `{"a": [1` and `2]}` are no values, and become none by being neighbours.
    """
    between = os.urandom(12).hex()
    found = plain_json.loads("[" + f',"{between}",'.join(texts) + "]")
    if found[1::2] != [between] * (len(texts) - 1) or len(found) != 2 * len(texts) - 1:
        raise ValueError("not each text is one value")
    return list(found[::2])
