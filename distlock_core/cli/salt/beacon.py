"""The beacon: what happens to locks, as events of a minion. One `RealmWatcher` for each beacon of this process.

Salt loads a beacon's file again whenever it refreshes its modules, and does not always close the one before. The
watchers are kept here, and so outlive that.
"""

from __future__ import annotations

import logging

from distlock_core.adapters.advice import SALT
from distlock_core.adapters.salt_reports import known
from distlock_core.adapters.salt_settings import SECTION, of_call
from distlock_core.base.deadline import now
from distlock_core.base.nearest import did_you_mean
from distlock_core.cli.json_output import ended_json, frozen_json, holder_json
from distlock_core.cli.salt.bus import ACQUIRED, KEPT, LOST, RELEASED, end_of, packable, within
from distlock_core.cli.salt.watcher import RealmWatcher
from distlock_core.errors import DistlockError
from distlock_core.events.follow import FROZEN, LOCK_ACQUIRED, LOCK_CHANGED, THAWED
from distlock_core.model import record
from distlock_core.model.name_patterns import matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from distlock_core.events.follow import LockEvent
    from distlock_core.model.state import Holder

    Config = list[dict[str, Any]]

log = logging.getLogger(__name__)

NAME = "distlock"
EVENTS = (ACQUIRED, RELEASED, LOST, KEPT, FROZEN, THAWED)
OWN = ("locks", "events")
REALM = ("endpoints", "prefix", "profile", "connect_timeout")
OF_SALT = ("interval", "enabled", "beacon_module", "disable_during_state_run", "run_once", "_beacon_name")
LEAST_IDLE = 300.0  # seconds without a call after which a watcher ends by itself
NEXT_ATTEMPT = 60.0  # seconds after which wrong settings are read again


class Slot:
    """The watcher of one beacon, and what it was made from."""

    def __init__(self, made_from: object, watcher: RealmWatcher | None) -> None:
        self.made_from = made_from
        self.watcher = watcher
        self.made_at = now()

    def fits(self, made_from: object) -> bool:
        if self.made_from != made_from:
            return False
        return now() - self.made_at < NEXT_ATTEMPT if self.watcher is None else self.watcher.is_alive

    def close(self) -> None:
        if self.watcher is not None:
            self.watcher.close()


_slots: dict[str, Slot] = {}  # by the name of the beacon


def mistake_in(config: object) -> str:
    """What is wrong with a beacon's configuration, "" if nothing is."""
    if not isinstance(config, list) or not all(isinstance(one, dict) for one in config):
        return f"expected a list of `- KEY: VALUE`, found {ascii(config)[:60]}"
    options = _options(config)
    for key in options:
        if key not in (*OWN, *REALM, *OF_SALT):
            hint = did_you_mean(str(key), (*OWN, *REALM)) or f"; known keys: {', '.join((*OWN, *REALM))}"
            return f"unknown key {key!r}{hint}"
    for key in OWN:
        found = options.get(key, ["*"])
        if found == []:
            return f"{key}: the list is empty: leave it out for all {key}"
        if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
            return f"{key}: expected a list of names, found {ascii(found)[:60]}"
    for event in options.get("events", []):
        if event not in EVENTS:
            return f"events: there is no event {event!r}{did_you_mean(event, EVENTS)}; known: {', '.join(EVENTS)}"
    return ""


def poll(config: Config, salt: Mapping[str, Any], opts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the events since the last call, in order; the first call begins. It never waits for etcd.

    `salt` and `opts` are Salt's `__salt__` and `__opts__`. Each event has the `tag` under which Salt sends it.
    """
    options = _options(config)
    name = options.get("_beacon_name", NAME)
    wanted = {key: value for key, value in options.items() if key in (*OWN, *REALM)}
    made_from = wanted, opts.get(SECTION), (opts.get("pillar") or {}).get(SECTION)
    slot = _slots.get(name)
    if slot is None or not slot.fits(made_from):
        close(config)
        slot = _slots[name] = Slot(made_from, _watcher(name, options, salt, opts))
    events = [] if slot.watcher is None else slot.watcher.take()
    kinds = options.get("events") or EVENTS
    return [event for event in reports(events) if event["event"] in kinds]


def close(config: Config) -> None:
    """End the watcher of a beacon."""
    slot = _slots.pop(_options(config).get("_beacon_name", NAME), None)
    if slot is not None:
        slot.close()


def watcher_of(name: str) -> RealmWatcher | None:
    """The watcher of the beacon with this name, None if it has none."""
    slot = _slots.get(name)
    return None if slot is None else slot.watcher


def _watcher(
    name: str, options: Mapping[str, Any], salt: Mapping[str, Any], opts: Mapping[str, Any]
) -> RealmWatcher | None:
    """A new watcher, None if the settings are wrong, which the log says."""
    try:
        settings = of_call(salt, opts, {key: options[key] for key in REALM if key in options})
    except DistlockError as error:
        log.error("distlock: the beacon %s does not start: %s", name, SALT.said(error))
        return None
    except Exception as error:  # noqa: BLE001 - of sdb://, for example; Salt would not call the beacons after this one
        log.error("distlock: the beacon %s does not start: %s: %s", name, type(error).__name__, error)
        return None
    patterns = options.get("locks") or ["*"]
    idle = max(LEAST_IDLE, 3 * _interval(name, opts))
    return RealmWatcher(settings, lambda lock: any(matches(pattern, lock) for pattern in patterns), idle)


def _interval(name: str, opts: Mapping[str, Any]) -> float:
    """Seconds between two calls. Salt takes it out of what it passes to a beacon."""
    for source in (opts, opts.get("pillar") or {}):
        found = (source.get("beacons") or {}).get(name)
        for one in found if isinstance(found, list) else []:
            interval = one.get("interval") if isinstance(one, dict) else None
            if isinstance(interval, (int, float)):
                return float(interval)
    return 0.0


def _options(config: Config) -> dict[str, Any]:
    return {key: value for one in config for key, value in one.items()}


def reports(events: Sequence[LockEvent]) -> list[dict[str, Any]]:
    """The events of a watch as Salt sends them, with the fields of `--watch --json`."""
    found = []
    for event, following in zip(events, [*events[1:], None]):
        kind = kind_of(event, following)
        if kind:
            lock = event.lock or None
            fields: dict[str, Any] = {"event": kind, "lock": lock, "revision": event.revision}
            if event.holder is not None:
                fields = {**holder_json(event.holder), **fields, "ended": ended_json(event.ended)}
            elif event.freeze is not None:
                fields = {**frozen_json(event.freeze), **fields}
            found.append(packable({**known(fields), "tag": within(kind, lock)}))
    return found


def kind_of(event: LockEvent, following: LockEvent | None) -> str:
    """What a change means for its holder, "" if nothing. `following` is the next change of the realm.

    A hold without a note on its end has expired, or its key was deleted by other means: it is lost. One that cools down
    was released when that began.
    """
    if event.holder is None:
        return event.kind
    found = event.holder.record
    if event.kind == LOCK_ACQUIRED:
        return ACQUIRED
    if event.kind == LOCK_CHANGED:
        return {record.KEPT: KEPT, record.COOLING: RELEASED}.get(found.state, "")
    if found.state == record.COOLING:
        return ""
    if event.ended is not None:
        return end_of(event.holder, event.ended.how)
    leaves_a_note = bool(found.run)  # the Go original does not
    is_lost = leaves_a_note and found.state in record.ATTENDED and not _is_taken_over(event.holder, following)
    return LOST if is_lost else RELEASED


def _is_taken_over(holder: Holder, following: LockEvent | None) -> bool:
    """True if the next change is that the same owner has taken this hold over from its dead run."""
    new = None if following is None else following.holder
    return new is not None and new.key == holder.key and new.record.is_taken_over and new.owner == holder.owner
