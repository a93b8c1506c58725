"""`Value` behaves as the named tuple that type checkers take it for."""

from __future__ import annotations

import copy
import pickle
from typing import Callable

import pytest

from distlock_core.etcd.values import Get, KeyValue
from distlock_core.model.record import HoldEnd

GET = Get(b"x", limit=2)


def test_fields_are_given_in_order_or_by_name_and_the_rest_has_its_defaults() -> None:
    assert Get(b"x", None, False, False, 2) == Get(limit=2, key=b"x") == GET
    assert (GET.key, GET.limit, GET.max_create_revision) == (b"x", 2, 0)
    assert GET == (b"x", None, False, False, 2, 0, False, 0, False)
    assert (
        repr(HoldEnd("released", None, 1, "me", token=7))
        == "HoldEnd(how='released', by=None, at=1, owner='me', token=7, took=(), why='')"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        Get,
        lambda: Get(b"x", key=b"y"),  # type: ignore[misc]
        lambda: Get(b"x", unheard_of=1),  # type: ignore[call-arg]
        lambda: KeyValue(b"x", b"", 1, 1, 0, 5),  # type: ignore[call-arg]
        lambda: GET._replace(unheard_of=1),  # type: ignore[call-arg]
    ],
)
def test_values_that_do_not_match_the_fields_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"Get takes key, range_end|KeyValue takes|no field 'unheard_of'"):
        wrong()


def test_it_cannot_be_changed_only_replaced() -> None:
    for field in ("limit", "unheard_of"):
        with pytest.raises(AttributeError):
            setattr(GET, field, 3)
    assert GET._replace(limit=3) == Get(b"x", limit=3)
    assert GET.limit == 2


def test_it_survives_a_copy_and_a_pickle() -> None:
    for again in (copy.deepcopy(GET), pickle.loads(pickle.dumps(GET)), Get._make(GET), Get(**GET._asdict())):
        assert (type(again), again) == (Get, GET)
