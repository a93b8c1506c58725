"""Suggestions for misspelt words."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


ALIKE = 0.7  # difflib's ratio; below it a suggestion misleads


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most similar to this one, "" if none is similar."""
    import difflib

    words = {_bare(one): one for one in known}
    found = difflib.get_close_matches(_bare(word)[:80], words, 1, ALIKE)
    return words[found[0]] if found else ""


def did_you_mean(word: str, known: Iterable[str], show: str = "{}") -> str:
    """Return `; did you mean WORD?`, or "" if no known word is similar."""
    found = nearest(word, known)
    return f"; did you mean {show.format(found)}?" if found else ""


def _bare(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")
