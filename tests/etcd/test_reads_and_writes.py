"""Reads and transactions, over both drivers on both etcds."""

from __future__ import annotations

import pytest

from distlock_core.etcd.values import Compare, Delete, Get, LeaseGone, Outcome, Put, Range, prefix_end
from tests.support.contract_cell import Cell, patience


def prefix(cell: Cell, rest: str = "") -> tuple[bytes, bytes]:
    return cell.key(rest), prefix_end(cell.key(rest))


def test_a_missing_key_is_an_empty_range(cell: Cell) -> None:
    outcome = cell.etcd.read([Get(cell.key("x")), Get(*prefix(cell))], patience())
    assert outcome.succeeded
    assert outcome.results == (Range((), 0), Range((), 0))
    assert outcome.revision > 0


def test_a_read_of_nothing_is_answered(cell: Cell) -> None:
    outcome = cell.etcd.read([], patience())
    assert (outcome.succeeded, outcome.results) == (True, ())


def test_all_fields_of_a_key_are_returned(everywhere: Cell) -> None:
    lease = everywhere.lease()
    created = everywhere.put("x", b"one", lease)
    changed = everywhere.put("x", b"two", lease)
    kv = everywhere.get("x")
    assert kv == (everywhere.key("x"), b"two", created, changed, lease)
    assert all(type(field) is kind for field, kind in zip(kv, (bytes, bytes, int, int, int)))
    everywhere.put("x", b"three")
    kv = everywhere.get("x")
    assert kv is not None
    assert kv.lease == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (bytes(range(256)), bytes(reversed(range(256)))),
        (b"\x00", b"\x00"),
        (b"\xff\xff", b"\xff"),
        ("ключ/🔒".encode(), "naïve €uro 🔒".encode()),
        (b"empty", b""),
        (b"a\nb\r\n\r\nc", b'{"result":'),
    ],
    ids=["all bytes", "zeros", "ones", "no ascii", "nothing", "line ends"],
)
def test_keys_and_values_are_bytes(cell: Cell, key: bytes, value: bytes) -> None:
    revision = cell.put(key, value)
    assert cell.get(key) == (cell.key(key), value, revision, revision, 0)


def test_a_large_value_is_returned_whole(newer: Cell) -> None:
    value = bytes(range(256)) * 4096  # 1 MiB
    newer.put("x", value)
    found = newer.get("x")
    assert found is not None
    assert found.value == value


def test_an_answer_may_exceed_the_limit_of_a_request(newer: Cell) -> None:
    """gRPC accepts no more than 4 MiB by default."""
    value = b"x" * 1_100_000
    newer.put("large", value)
    found = newer.read(*[Get(newer.key("large"))] * 4)
    assert [len(one.kvs[0].value) for one in found] == [len(value)] * 4


def test_a_range_ends_before_its_end(cell: Cell) -> None:
    for name in ("a", "b", "b/1", "c"):
        cell.put(name)
    (found,) = cell.read(Get(cell.key("a"), cell.key("c")))
    assert [kv.key for kv in found.kvs] == [cell.key("a"), cell.key("b"), cell.key("b/1")]
    assert found.total == 3


def test_a_range_is_in_the_order_of_its_keys(cell: Cell) -> None:
    for name in ("c", "a", "b"):
        cell.put(name)
    (found,) = cell.read(Get(*prefix(cell)))
    assert [kv.key[-1:] for kv in found.kvs] == [b"a", b"b", b"c"]


def test_youngest_first_a_range_is_in_the_reverse_order_of_its_creation(cell: Cell) -> None:
    for name in ("c", "a", "b"):
        cell.put(name)
    cell.put("c", b"again")  # the creation counts, not the change
    (found,) = cell.read(Get(*prefix(cell), youngest_first=True))
    assert [kv.key[-1:] for kv in found.kvs] == [b"b", b"a", b"c"]


def test_the_total_counts_all_keys_whatever_was_left_out(cell: Cell) -> None:
    created = [cell.put(name) for name in ("c", "a", "b")]
    limited, older, keys = cell.read(
        Get(*prefix(cell), youngest_first=True, limit=1),
        Get(*prefix(cell), youngest_first=True, max_create_revision=created[1]),
        Get(*prefix(cell), keys_only=True),
    )
    assert ([kv.create_revision for kv in limited.kvs], limited.total) == (created[2:], 3)
    assert ([kv.create_revision for kv in older.kvs], older.total) == (created[1::-1], 3)
    assert ([kv.value for kv in keys.kvs], keys.total) == ([b""] * 3, 3)


def test_several_reads_are_of_one_revision(cell: Cell) -> None:
    cell.put("x")
    outcome = cell.etcd.read([Get(cell.key("x")), Get(*prefix(cell)), Get(cell.key("y"))], patience())
    x, all_, y = outcome.ranges()
    assert x.kvs == all_.kvs
    assert y.kvs == ()
    assert outcome.revision >= x.kvs[0].mod_revision


def test_a_read_sees_what_the_other_driver_has_written(cell: Cell) -> None:
    other = cell.other()
    for number in range(5):
        revision = other.txn([], [Put(cell.key("x"), b"%d" % number)], [], patience()).revision
        found = cell.get("x")
        assert found is not None
        assert (found.value, found.mod_revision) == (b"%d" % number, revision)


def test_a_transaction_returns_the_result_of_each_step(cell: Cell) -> None:
    for name in ("a/1", "a/2", "b"):
        cell.put(name)
    outcome = cell.txn(
        then=[
            Put(cell.key("c"), b""),
            Get(cell.key("b"), keys_only=True),
            Delete(*prefix(cell, "a/")),
            Delete(cell.key("not there")),
        ]
    )
    put, found, some, none = outcome.results
    assert (put, some, none) == (None, 2, 0)
    assert isinstance(found, Range)
    assert [kv.key for kv in found.kvs] == [cell.key("b")]
    assert outcome.ranges() == (found,)


def test_the_other_branch_is_taken_when_a_condition_fails(cell: Cell) -> None:
    cell.put("x", b"1")
    conditions = [Compare("VALUE", "EQUAL", cell.key("x"), b"1"), Compare("VALUE", "EQUAL", cell.key("x"), b"2")]
    outcome = cell.txn(conditions, [Put(cell.key("y"), b"")], [Get(cell.key("x"))])
    assert not outcome.succeeded
    assert [kv.value for kv in outcome.ranges()[0].kvs] == [b"1"]
    assert cell.get("y") is None


def compares(cell: Cell, created: int, changed: int) -> list[tuple[Compare, bool]]:
    x, none = cell.key("x"), cell.key("none")
    a = prefix(cell, "a/")
    empty = prefix(cell, "empty/")
    return [
        (Compare("CREATE", "EQUAL", x, created), True),
        (Compare("CREATE", "EQUAL", x, changed), False),
        (Compare("CREATE", "LESS", x, created + 1), True),
        (Compare("CREATE", "GREATER", x, created), False),
        (Compare("MOD", "EQUAL", x, changed), True),
        (Compare("MOD", "EQUAL", x, created), False),
        (Compare("MOD", "GREATER", x, created), True),
        (Compare("MOD", "LESS", x, changed), False),
        (Compare("VALUE", "EQUAL", x, b"two"), True),
        (Compare("VALUE", "EQUAL", x, b""), False),
        (Compare("VALUE", "GREATER", x, b"twn"), True),
        (Compare("VALUE", "LESS", x, b"two"), False),
        (Compare("CREATE", "EQUAL", none, 0), True),
        (Compare("MOD", "EQUAL", none, 0), True),
        (Compare("MOD", "LESS", none, 1), True),
        (Compare("CREATE", "GREATER", none, 0), False),
        # Every key of a range has to meet it.
        (Compare("CREATE", "GREATER", a[0], 0, a[1]), True),
        (Compare("CREATE", "EQUAL", a[0], 0, a[1]), False),
        (Compare("VALUE", "EQUAL", a[0], b"1", a[1]), False),
        (Compare("VALUE", "LESS", a[0], b"3", a[1]), True),
        # An empty range counts as one key of revision 0.
        (Compare("CREATE", "EQUAL", empty[0], 0, empty[1]), True),
        (Compare("MOD", "LESS", empty[0], 1, empty[1]), True),
        (Compare("CREATE", "GREATER", empty[0], 0, empty[1]), False),
        (Compare("MOD", "GREATER", empty[0], 0, empty[1]), False),
    ]


def test_every_form_of_a_condition_holds_when_it_is_true(cell: Cell) -> None:
    created = cell.put("x", b"one")
    changed = cell.put("x", b"two")
    for number in ("1", "2"):
        cell.put(f"a/{number}", number.encode())
    for compare, holds in compares(cell, created, changed):
        assert cell.txn([compare]).succeeded is holds, compare


def test_a_refused_transaction_changes_nothing(everywhere: Cell) -> None:
    absent = Compare("CREATE", "EQUAL", everywhere.key("x"), 0)
    assert everywhere.txn([absent], [Put(everywhere.key("x"), b"1")]).succeeded
    assert not everywhere.txn([absent], [Put(everywhere.key("x"), b"2")]).succeeded
    assert not everywhere.txn([absent], [Delete(everywhere.key("x"))]).succeeded
    found = everywhere.get("x")
    assert found is not None
    assert found.value == b"1"


def test_the_revision_of_a_write_is_the_keys_own(cell: Cell) -> None:
    outcome = cell.txn(then=[Put(cell.key("x"), b""), Put(cell.key("y"), b"")])
    kvs = cell.read(Get(*prefix(cell)))[0].kvs
    assert [(kv.create_revision, kv.mod_revision) for kv in kvs] == [(outcome.revision, outcome.revision)] * 2


def test_a_write_under_a_missing_lease_has_its_own_error(cell: Cell) -> None:
    with pytest.raises(LeaseGone):
        cell.put("x", b"", 1 << 61)
    assert cell.get("x") is None


def test_results_are_plain_python(cell: Cell) -> None:
    """Nothing of a driver's own types gets out: they would not survive a fork, a pickle or a comparison."""
    cell.put("x", b"v")
    outcome = cell.etcd.read([Get(cell.key("x"))], patience())
    assert type(outcome) is Outcome
    assert (type(outcome.succeeded), type(outcome.revision), type(outcome.results)) == (bool, int, tuple)
    (found,) = outcome.ranges()
    assert (type(found.kvs), type(found.total)) == (tuple, int)
    assert repr(found) == repr(cell.other().read([Get(cell.key("x"))], patience()).ranges()[0])
