"""Metrics of locks: every figure, and a text that Prometheus' own parser reads back."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from distlock_core.etcd.values import KeyValue
from distlock_core.lock.status import all_states
from distlock_core.model.keys import DEFAULT_MUTEX, Keys
from distlock_core.model.metrics import OF_A_LOCK, OF_A_REALM, Metrics, metrics_of, metrics_without_locks
from distlock_core.model.sign_of_life import SignOfLife
from distlock_core.model.state import Holder, LockState

PREFIX = "/distlock/"
AT = 1_795_263_600.0


def figures(text: str) -> dict[tuple[str, ...], float]:
    """By name and label values: each figure, as Prometheus reads it."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert (family.type, bool(family.documentation)) == ("gauge", True)
        for sample in family.samples:
            assert sample.labels.pop("realm") == PREFIX
            key = (sample.name, *sample.labels.values())
            assert key not in found
            found[key] = sample.value
    return found


def metrics(entries: dict[str, str], *, frozen: bool = False) -> Metrics:
    """Of a realm with these keys and values."""
    kvs = [
        KeyValue((PREFIX + name).encode(), value.encode(), n, n, 0) for n, (name, value) in enumerate(entries.items())
    ]
    return metrics_of(PREFIX, all_states(kvs, PREFIX, DEFAULT_MUTEX), AT, frozen=frozen)


def of(entries: dict[str, str], **options: Any) -> dict[tuple[str, ...], float]:
    return figures(metrics(entries, **options).text)


def test_every_figure_of_a_lock() -> None:
    entries = {
        "db": '1795263000;node-1;{"limit":3,"expect":60}',
        "db/slot/1": '1795262000;node-2;{"limit":3,"expect":60,"state":"kept"}',
        "db/slot/2": '1795263500;node-3;{"limit":3,"state":"settling"}',
        "db/queue/50/7": "1795263400;node-4;{}",
        "db/queue/40/9": "1795263300;node-5;{}",
        "db/freeze": "1795263100;boss;{}",
    }
    assert of(entries) == {
        ("distlock_up",): 1,
        ("distlock_etcd_reachable",): 1,
        ("distlock_metrics_timestamp_seconds",): AT,
        ("distlock_realm_frozen",): 0,
        ("distlock_held", "db"): 1,
        ("distlock_holders", "db", "held"): 1,
        ("distlock_holders", "db", "settling"): 1,
        ("distlock_holders", "db", "kept"): 1,
        ("distlock_holders", "db", "cooling"): 0,
        ("distlock_overdue_holders", "db"): 1,  # a kept one is not overdue
        ("distlock_silent_holders", "db"): 0,
        ("distlock_slots", "db"): 3,
        ("distlock_waiters", "db"): 2,
        ("distlock_frozen", "db"): 1,
        ("distlock_oldest_hold_timestamp_seconds", "db"): 1_795_262_000,
        ("distlock_oldest_wait_timestamp_seconds", "db"): 1_795_263_300,
    }


def test_holders_without_a_sign_of_life_are_counted() -> None:
    def holder(beat: int, silent: int | None) -> Holder:
        keys = Keys(PREFIX, "x")
        held = Holder.parse(keys, KeyValue(keys.lock, b"1;a;{}", 1, 1, 0))
        return held._replace(sign=SignOfLife(beat, silent, "", AT))

    state = LockState("x", (holder(15, 60), holder(15, 20), holder(15, None), holder(600, 60)), 0)
    assert figures(metrics_of(PREFIX, [state], AT, frozen=False).text)["distlock_silent_holders", "x"] == 1


def test_a_lock_that_is_only_waited_for() -> None:
    found = of({"x/queue/50/7": "1795263400;node-4;{}"})
    assert found["distlock_held", "x"] == found["distlock_overdue_holders", "x"] == 0
    assert found["distlock_waiters", "x"] == found["distlock_slots", "x"] == 1
    assert ("distlock_oldest_hold_timestamp_seconds", "x") not in found


def test_a_policy_decides_about_slots_and_about_what_is_overdue() -> None:
    entries = {"x": '1795263000;node-1;{"expect":9000}', "__policy/x": '1795263000;boss;{"slots":4,"expect":60}'}
    found = of(entries)
    assert found["distlock_slots", "x"] == 4
    assert found["distlock_overdue_holders", "x"] == 1


def test_what_is_no_record_is_a_lock_without_times() -> None:
    found = of({"x": "gibberish", "y": "-;-;-"})
    assert [found["distlock_held", name] for name in ("x", "y")] == [1, 1]
    assert not any(name == "distlock_oldest_hold_timestamp_seconds" for name, *_ in found)


def test_a_state_of_another_version_is_counted_and_named_other() -> None:
    found = of({"x": '1;a;{"state":"' + 9 * "dancing" + '"}', "x/shared/1": '1;b;{"state":""}', "y": "1;a;{}"})
    assert found["distlock_holders", "x", "other"] == found["distlock_holders", "x", "held"] == 1
    assert ("distlock_holders", "y", "other") not in found


def test_a_frozen_realm_freezes_each_lock() -> None:
    found = of({"x": "1;a;{}", "y/freeze": "1;boss;{}", "__freeze": "1;boss;{}"}, frozen=True)
    assert [value for (name, *_), value in found.items() if "frozen" in name] == [1, 1, 1]


@pytest.mark.parametrize(
    "name", ['"', "\\", "\\n", "a\nb", 'we"ird\\"\n\\', '{x="1"} 2', "# HELP x", "\u00fcber\u2028", "\r", "'"]
)
def test_a_name_is_read_back_as_it_is(name: str) -> None:
    found = of({name: "1;a;{}", "x": "1;a;{}"})
    assert found["distlock_held", name] == found["distlock_held", "x"] == 1


def test_without_locks_it_says_that_they_could_not_be_read() -> None:
    for reachable in (False, True):
        assert figures(metrics_without_locks(PREFIX, AT, reachable=reachable).text) == {
            ("distlock_up",): 0,
            ("distlock_etcd_reachable",): reachable,
            ("distlock_metrics_timestamp_seconds",): AT,
        }


def test_an_empty_realm_has_no_metric_without_a_figure() -> None:
    text = metrics({}).text
    assert re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE) == list(OF_A_REALM)


def test_names_and_texts_are_as_prometheus_asks() -> None:
    for name, text in {**OF_A_REALM, **OF_A_LOCK}.items():
        assert re.fullmatch(r"distlock_[a-z]+(_[a-z]+)*", name)
        assert not name.endswith(("_total", "_count", "_sum", "_bucket", "_info"))
        assert ("_timestamp_" in name) == name.endswith("_seconds")
        assert "\\" not in text
        assert "\n" not in text


def test_what_belongs_together_stands_together() -> None:
    """The format asks for it: all figures of a metric in one group, below its HELP and TYPE."""
    text = metrics(dict.fromkeys(("a", "b", "c"), "1;a;{}")).text
    order = [line.split(" ")[2] if line[0] == "#" else line.split("{")[0] for line in text.splitlines()]
    assert len(dict.fromkeys(order)) == 1 + sum(one != other for one, other in zip(order, order[1:]))


def test_the_fields_of_the_json_are_the_same_figures() -> None:
    found = metrics({"db": "1795263000;node-1;{}"})
    again = {
        (metric["name"], *list(sample["labels"].values())[1:]): sample["value"]
        for metric in found.fields()
        for sample in metric["samples"]
    }
    assert again == figures(found.text)


def test_the_text_of_thousands_of_locks_is_of_one_pass() -> None:
    text = metrics({f"lock-{n}": "1795263000;node-1;{}" for n in range(2000)}).text
    assert text.count("# TYPE ") == len(OF_A_REALM) + len(OF_A_LOCK) - 1  # nobody waits
