"""Warnings about the way to etcd, where nothing has failed: each is given once."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_made: set[str] = set()


def _log(line: str) -> None:
    import logging

    logging.getLogger("distlock").warning(line)


tell: Callable[[str], None] = _log  # a front end with a person before it puts its own way here


def warn_once(line: str) -> None:
    """Give this warning, unless this process has given it before. Never raises."""
    if line in _made:
        return
    _made.add(line)
    try:
        tell(line)
    except Exception:  # noqa: BLE001, S110 - a stderr that is closed, no descriptor left: it is only a warning
        pass
