"""Names, keys and records: pure values."""

from __future__ import annotations

import pytest

from distlock_core.errors import ConfigError
from distlock_core.etcd.values import KeyValue
from distlock_core.model.checks import check_name, check_owner, check_prefix, check_text
from distlock_core.model.keys import Keys, Place, ends
from distlock_core.model.record import HoldEnd, Record
from distlock_core.model.state import Holder, Waiter


@pytest.mark.parametrize("name", ["x", "percona_prod", "a b", "_x", "x__y", "-", "\u00fcber", "n" * 255, "\u20ac" * 85])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "empty"),
        ("a/b", "must not contain '/'"),
        ("__x", "reserved"),
        ("__internal_lock", "reserved"),
        ("n" * 256, "longer than 255 bytes"),
        ("\u20ac" * 86, "longer than 255 bytes"),
        ("a\nb", "control characters"),
        ("a\x00b", "control characters"),
        ("a\x7fb", "control characters"),
        ("a\x85b", "control characters"),
        ("a\udcffb", "not valid UTF-8"),
    ],
)
def test_a_string_that_is_not_a_valid_name(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        check_name(name)
    assert caught.value.message.isprintable()


def test_the_mutex_of_the_original_is_reserved_under_any_name() -> None:
    assert check_name("theirs") == "theirs"
    with pytest.raises(ConfigError, match="reserved"):
        check_name("theirs", "theirs")


@pytest.mark.parametrize("owner", ["", "a;b", "a\nb", "a\x1bb", "\udcff"])
def test_a_string_that_is_not_a_valid_owner(owner: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_owner(owner)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("owner", ["node-3", "salt:minion 7", "ansible:web@ctl:77", "a/b", "__x", "\u00fc"])
def test_owners(owner: str) -> None:
    assert check_owner(owner) == owner


def test_a_prefix_is_not_empty_and_a_reason_may_be_anything_but_bytes() -> None:
    for prefix in ("", "/a\n/", "\udcff"):
        with pytest.raises(ConfigError):
            check_prefix(prefix)
    assert check_text("any\nthing;\x1b", "reason") == "any\nthing;\x1b"
    with pytest.raises(ConfigError, match="not valid UTF-8"):
        check_text("\ud800", "reason")


# Keys.


def test_where_a_lock_lives() -> None:
    keys = Keys("/distlock/", "x", "__internal_lock")
    assert keys.lock == keys.slot(0) == b"/distlock/x"
    assert keys.slot(3) == b"/distlock/x/slot/3"
    assert keys.shared_hold("1f") == b"/distlock/x/shared/1f"
    assert keys.ticket(255, Place()) == b"/distlock/x/queue/50/exclusive/00000000000000ff"
    assert keys.ticket(255, Place(7, shared=True)) == b"/distlock/x/queue/07/shared/00000000000000ff"
    assert keys.last == b"/distlock/__last/x"
    assert keys.prune_mark == b"/distlock/__pruned/at"
    assert keys.freeze == b"/distlock/__freeze"
    assert keys.mutex == b"/distlock/__internal_lock/"


def test_the_prefix_is_joined_as_it_stands() -> None:
    assert Keys("team", "x").lock == b"teamx"


@pytest.mark.parametrize("other", ["x-b", "x0", "xy", "x.", "x\u00fc", "w", "x slot"])
def test_the_ranges_of_a_lock_hold_nothing_of_another(other: str) -> None:
    keys = Keys("/p/", "x")
    another = Keys("/p/", other)
    for start in (keys.slots, keys.queue):
        begin, end = ends(start)
        for key in (another.lock, another.slot(1), another.ticket(1, Place()), another.last):
            assert not begin <= key < end
        assert all(begin <= key < end for key in (start, start + b"0", start + b"\xff" * 9))


@pytest.mark.parametrize(
    ("key", "number"),
    [
        (b"/p/x", 0),
        (b"/p/x/slot/1", 1),
        (b"/p/x/slot/12", 12),
        (b"/p/x/slot/a", 0),
        (b"/p/x/slot/", 0),
        (b"/p/x/slot/-1", 0),
        (b"/p/x/slot/" + b"9" * 5000, 0),
        (b"/p/x/slot/\xd9\xa4", 0),
        (b"/p/y/slot/4", 0),
    ],
)
def test_the_slot_of_a_key_in_any_format(key: bytes, number: int) -> None:
    assert Keys("/p/", "x").slot_of(key) == number


# Records.


def test_a_record_round_trips() -> None:
    record = Record(1500000000, "node-3", {"reason": 'a;b\n"c" \u00fc \x1b', "run": "a1", "value": [1, None]})
    assert Record.parse(record.encode()) == record
    assert record.encode().startswith(b'1500000000;node-3;{"reason":"a;b\\n')


def test_the_original_can_list_our_records() -> None:
    fields = Record(1500000000, "o", {"reason": "a;b\nc"}).encode().decode().split(";", 2)
    assert (int(fields[0]), fields[1]) == (1500000000, "o")


@pytest.mark.parametrize("rest", ["some reason", "", "a;b", "{broken", "[1]", '"x"', "null", "{" * 100_000])
def test_the_rest_of_a_record_that_is_no_object_is_the_reason(rest: str) -> None:
    record = Record.parse(f"1500000000;go-host;{rest}".encode())
    assert (record.since, record.owner, record.text("reason")) == (1500000000, "go-host", rest)
    assert (record.run, record.explicit, record.limit, record.state) == ("", False, 1, "held")


@pytest.mark.parametrize(
    "value",
    [b"", b"text", b"1;owner", b"now;o;r", b";;", b"1.5;o;r", b" 1;o;r", b"--1;o;r", b"-;o;r", b"1" * 5000 + b";o;r"],
)
def test_an_invalid_record_is_held_by_an_unknown_owner(value: bytes) -> None:
    record = Record.parse(value)
    assert (record.since, record.owner) == (None, None)
    assert record.text("reason") == value.decode()


def test_arabic_digits_are_no_seconds() -> None:
    assert Record.parse("\u0661;o;r".encode()).owner is None


def test_bytes_that_are_no_text_are_shown_as_escapes() -> None:
    assert Record.parse(b"1;o\xff;r\xfe") == Record(1, "o\\xff", {"reason": "r\\xfe"})


@pytest.mark.parametrize(
    "details",
    [
        {"reason": 7, "run": [], "limit": "2", "pid": True, "explicit": "true", "state": None},
        {"reason": None, "run": {}, "limit": 1.5, "pid": None, "explicit": 1, "state": 0},
        {"limit": 0},
    ],
)
def test_fields_of_a_wrong_type_count_as_missing(details: dict[str, object]) -> None:
    record = Record(1, "o", details)
    assert (record.text("reason"), record.run, record.limit, record.explicit, record.state) == (
        "",
        "",
        1,
        False,
        "held",
    )
    assert record.number("pid") is None


def test_half_a_surrogate_pair_can_be_written_again() -> None:
    record = Record.parse(b'1;o;{"reason":"\\ud800"}')
    assert Record.parse(record.encode()) == record


def test_a_holder_is_parsed_from_key_and_value() -> None:
    keys = Keys("/p/", "x")
    holder = Holder.parse(keys, KeyValue(keys.slot(2), b'9;me;{"reason":"r"}', 41, 43, 0))
    assert (holder.lock, holder.slot, holder.owner, holder.since, holder.reason) == ("x", 2, "me", 9, "r")
    assert (holder.token, holder.mod_revision, holder.lifetime) == (41, 43, "persistent")


def test_a_waiter_is_parsed_from_its_ticket() -> None:
    place = Place(30, shared=True)
    waiter = Waiter.parse(KeyValue(b"/p/x/queue/30/shared/1", b'9;me;{"host":"h","reason":"r"}', 41, 41, 7), place)
    assert (waiter.owner, waiter.host, waiter.since, waiter.reason, waiter.lease) == ("me", "h", 9, "r", 7)
    assert (waiter.rank, waiter.is_shared) == (30, True)
    odd = Waiter.parse(KeyValue(b"/p/x/queue/50/exclusive/1", b"\xff", 41, 41, 0), Place())
    assert (odd.owner, odd.host, odd.since) == (None, "", None)


def test_the_end_note_of_a_hold_and_values_that_are_not_one() -> None:
    ended = HoldEnd.parse(b'9;me;{"how":"broken","owner":"you","token":7}')
    assert ended[:5] == ("broken", "me", 9, "you", 7)
    assert HoldEnd.parse(b"nonsense").how == ""
