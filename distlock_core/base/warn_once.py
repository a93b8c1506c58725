"""Warnings about the connection to etcd that are no errors, each given once."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_made: set[str] = set()


def _log(line: str) -> None:
    import logging

    logging.getLogger("distlock").warning(line)


tell: Callable[[str], None] = _log  # an interactive front end replaces it


def warn_once(line: str) -> None:
    """Give a warning, unless this process has given it before. Never raises."""
    if line in _made:
        return
    _made.add(line)
    try:
        tell(line)
    except Exception:  # noqa: BLE001, S110 - only a warning: stderr may be closed, or no descriptor left
        pass
