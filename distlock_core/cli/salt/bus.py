"""Bus: events about locks on Salt's event bus, where a minion runs. They are told, and nothing waits for them.

A job of a minion, and `salt-call` beside a running minion, hand the event to the minion's own bus, over a Unix socket;
the minion sends it to its master. Where no minion runs, nothing is sent.
"""

from __future__ import annotations

import logging
import os
import socket

from distlock_core.adapters.salt_reports import known
from distlock_core.base.text import printable
from distlock_core.base.threads import start_thread
from distlock_core.cli.json_output import frozen_json, holder_json
from distlock_core.model.record import ATTENDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from distlock_core.lock.acquire import Waiting
    from distlock_core.model.freeze import Freeze
    from distlock_core.model.state import Holder

log = logging.getLogger(__name__)

BOUND = 1.0  # seconds that a call waits for an event to be handed over
LARGEST = 2**63  # of the numbers that msgpack has
ACQUIRED, WAITING, LOST, RELEASED, KEPT = "acquired", "waiting", "lost", "released", "kept"


class Bus:
    """Tells what one call of Salt does to locks. No method raises, or takes longer than `BOUND`."""

    def __init__(self, salt: Mapping[str, Any], opts: Mapping[str, Any]) -> None:
        """`salt` and `opts` are Salt's `__salt__` and `__opts__`."""
        self._salt = salt
        self._opts = opts

    def waiter(self, owner: str | None) -> Callable[[Waiting], None]:
        """Return a callback for the progress of a wait, which tells once for each lock that this owner waits."""
        told: list[Waiting] = []

        def look(waiting: Waiting) -> None:
            if told or waiting.position < 1:
                return
            told.append(waiting)
            for state, position in waiting.places or ((waiting.state, waiting.position),):
                holders = [holder.owner for holder in state.holders]
                self.tell(WAITING, state.name, {"owner": owner, "position": position, "holders": holders})

        return look

    def acquired(self, holders: Iterable[Holder]) -> None:
        for holder in holders:
            self.tell(ACQUIRED, holder.lock, known(holder_json(holder)))

    def ended(self, holders: Iterable[Holder], by: str | None, *, cools: bool = False, why: str | None = None) -> None:
        """Tell that these holds were released, or by another than their owner broken. `ended` is as `last`."""
        for holder in holders:
            how = "broken" if why is not None or holder.owner != by else "cooled" if cools else "released"
            ended = known({"how": how, "by": by, "why": why})
            self.tell(end_of(holder, how), holder.lock, {**known(holder_json(holder)), "ended": ended})

    def failed(self, event: str, names: Iterable[str], owner: str | None, why: str) -> None:
        """Tell that an owner's work under these locks ended with them `KEPT` or `LOST`."""
        for name in names:
            self.tell(event, name, {"owner": owner, "reason": why})

    def freeze(self, event: str, freeze: Freeze) -> None:
        """Tell that a lock or the realm was frozen or thawed."""
        self.tell(event, freeze.lock, known(frozen_json(freeze)))

    def tell(self, event: str, lock: str | None, fields: Mapping[str, Any]) -> None:
        """Tell one event of a lock, or without one of the realm."""
        try:
            if not self._has_minion():
                return
            data, tag = packable({**fields, "event": event, "lock": lock}), f"distlock/{within(event, lock)}"
            if not self._is_masterless():
                data, tag = {"data": data, "tag": tag, "events": None, "pretag": None}, "fire_master"
            fire = self._salt["event.fire"]
            start_thread(lambda: _fire(fire, data, tag), "distlock-event").join(BOUND)
        except Exception:  # whatever is wrong with the bus, the lock's work goes on
            log.debug("distlock: no event %s of %s", event, lock, exc_info=True)

    def _has_minion(self) -> bool:
        if self._opts.get("ipc_mode") == "tcp":
            return True
        folder = self._opts["sock_dir"]
        names = [name for name in os.listdir(folder) if name.startswith("minion_event_") and name.endswith("_pull.ipc")]
        return any(_listens(os.path.join(folder, name)) for name in names)

    def _is_masterless(self) -> bool:
        local = self._opts.get("local") or self._opts.get("file_client") == "local"
        has_none = local or self._opts.get("master_type") == "disable"
        return bool(has_none) and not self._opts.get("use_master_when_local")


def _listens(path: str) -> bool:
    """False for a socket that a minion has left behind: Salt would try for a second to connect to it."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(BOUND)
        return probe.connect_ex(path) == 0


def _fire(fire: Callable[..., object], data: dict[str, Any], tag: str) -> None:
    try:
        fire(data, tag)
    except Exception:  # as in `tell()`
        log.debug("distlock: the event %s was not sent", tag, exc_info=True)


def end_of(holder: Holder, how: str) -> str:
    """RELEASED or LOST: a hold is lost if another than its owner has ended it. `how` as in `HoldEnd`.

    One that is kept, or cools down, is held for nobody's work any more: whoever unlocks it releases it.
    """
    return LOST if how == "broken" and holder.record.state in ATTENDED else RELEASED


def within(event: str, lock: str | None) -> str:
    """The end of an event's tag: `lock/NAME/lost`, or `realm/frozen`.

    Salt ends a tag at an empty line, which the name of another program's lock may have: it is escaped.
    """
    return f"realm/{event}" if lock is None else f"lock/{printable(lock)}/{event}"


def packable(value: Any) -> Any:
    """The value as msgpack can encode it: records of other programs may have half characters and endless numbers."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {packable(key): packable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [packable(one) for one in value]
    return str(value) if isinstance(value, int) and abs(value) >= LARGEST else value
