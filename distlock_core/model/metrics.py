"""Metrics: the figures of a realm's locks, for Prometheus. Pure values, and their text format.

A time is exported as the moment at which something began, not as an age: an age stands still when nobody writes it.
"""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.model.record import COOLING, HELD, KEPT, SETTLING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from distlock_core.model.state import LockState

GAUGE = "gauge"  # the type of all of them
STATES = (HELD, SETTLING, KEPT, COOLING)
OTHER = "other"  # a state that this version does not know
REALM_FROZEN = "distlock_realm_frozen"
# What each of them is, by name, in the order of the output: of the realm, then of each lock.
OF_A_REALM = {
    "distlock_up": "Whether the locks of the realm could be read (1) or not (0).",
    "distlock_etcd_reachable": "Whether etcd answered (1) or not (0).",
    "distlock_metrics_timestamp_seconds": "Unix time at which these figures were read.",
    REALM_FROZEN: "Whether the whole realm is frozen, so that nobody can acquire any lock (1), or not (0).",
}
OF_A_LOCK = {
    "distlock_held": "Whether anybody holds the lock, in whatever state (1), or not (0).",
    "distlock_holders": "Holders of the lock, by their state: held, settling, kept or cooling.",
    "distlock_overdue_holders": "Holders that hold the lock for longer than expected.",
    "distlock_silent_holders": "Holders that are to give signs of life, and have been silent for three of them.",
    "distlock_slots": "Simultaneous holders that the lock allows.",
    "distlock_waiters": "Waiters in the queue of the lock.",
    "distlock_frozen": "Whether the lock or its realm is frozen, so that nobody can acquire the lock (1), or not (0).",
    "distlock_oldest_hold_timestamp_seconds": "Unix time at which its longest holder acquired the lock.",
    "distlock_oldest_wait_timestamp_seconds": "Unix time at which its longest waiter joined the queue.",
}


class Sample(Value):
    """One figure, and what it is about."""

    labels: Mapping[str, str]
    value: int


class Metric(Value):
    """One metric: its name, what it is, and its figures."""

    name: str
    help: str
    samples: tuple[Sample, ...]


class Metrics(Value):
    """The figures of a realm's locks at one moment."""

    metrics: tuple[Metric, ...]

    @property
    def text(self) -> str:
        """The figures in Prometheus' text format."""
        return "".join(f"{line}\n" for metric in self.metrics for line in _lines(metric))

    def fields(self) -> list[dict[str, Any]]:
        """The same as the JSON of the command has it."""
        return [
            {
                "name": metric.name,
                "type": GAUGE,
                "help": metric.help,
                "samples": [{"labels": dict(sample.labels), "value": sample.value} for sample in metric.samples],
            }
            for metric in self.metrics
        ]


def metrics_of(prefix: str, states: Sequence[LockState], at: float, *, frozen: bool) -> Metrics:
    """The figures of these locks at this Unix time. `frozen`: the whole realm is."""
    found: dict[str, list[Sample]] = {name: [] for name in OF_A_LOCK}
    for state in states:
        for name, labels, value in _of_lock(state, at):
            found[name].append(Sample({"realm": prefix, "lock": state.name, **labels}, value))
    of_locks = [Metric(name, OF_A_LOCK[name], tuple(samples)) for name, samples in found.items() if samples]
    about = {"realm": prefix}
    return Metrics(
        (*_of_realm(about, at, up=True, reachable=True), _metric(REALM_FROZEN, about, int(frozen)), *of_locks)
    )


def metrics_without_locks(prefix: str, at: float, *, reachable: bool) -> Metrics:
    """The figures of a realm whose locks could not be read at this Unix time. `reachable`: but etcd answered."""
    return Metrics(_of_realm({"realm": prefix}, at, up=False, reachable=reachable))


def _of_realm(about: Mapping[str, str], at: float, *, up: bool, reachable: bool) -> tuple[Metric, ...]:
    return (
        _metric("distlock_up", about, int(up)),
        _metric("distlock_etcd_reachable", about, int(reachable)),
        _metric("distlock_metrics_timestamp_seconds", about, int(at)),
    )


def _metric(name: str, labels: Mapping[str, str], value: int) -> Metric:
    return Metric(name, OF_A_REALM[name], (Sample(labels, value),))


def _of_lock(state: LockState, at: float) -> Iterable[tuple[str, Mapping[str, str], int]]:
    """The figures of one lock: the name of the metric, the labels beside that of the lock, and the value."""
    holders = state.holders
    by_state = dict.fromkeys(STATES, 0)
    for holder in holders:
        kind = holder.record.state if holder.record.state in STATES else OTHER
        by_state[kind] = by_state.get(kind, 0) + 1
    yield "distlock_held", {}, int(bool(holders))
    for kind, number in by_state.items():
        yield "distlock_holders", {"state": kind}, number
    yield "distlock_overdue_holders", {}, sum(holder.is_overdue(at) for holder in holders)
    yield "distlock_silent_holders", {}, sum(holder.alive is False for holder in holders)
    yield "distlock_slots", {}, state.slots
    yield "distlock_waiters", {}, state.waiting
    yield "distlock_frozen", {}, int(bool(state.freezes))
    # What another program wrote may have no time: nothing is known of it then.
    held_since = [holder.since for holder in holders if holder.since is not None]
    if held_since:
        yield "distlock_oldest_hold_timestamp_seconds", {}, min(held_since)
    waits_since = [waiter.since for waiter in state.waiters if waiter.since is not None]
    if waits_since:
        yield "distlock_oldest_wait_timestamp_seconds", {}, min(waits_since)


def _lines(metric: Metric) -> Iterable[str]:
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} {GAUGE}"
    for labels, value in metric.samples:
        pairs = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
        yield f"{metric.name}{{{pairs}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
