"""Checks that chains of exceptions have no loop, which would make printing them endless."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from distlock_core.errors import DistlockError
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.http1 import ConnectionLost
from distlock_core.etcd.http.messages import SpeakGrpc
from distlock_core.etcd.refused import Refused
from distlock_core.etcd.values import LeaseGone, WatchEnded

OURS = (DistlockError, LeaseGone, WatchEnded, SpeakGrpc, ConnectFailed, ConnectionLost, Refused)


def circle(error: BaseException) -> list[BaseException]:
    """A path from an exception back to itself, by causes and contexts; empty if there is none."""
    ways = [[error]]
    seen: set[int] = set()
    while ways:
        way = ways.pop()
        for one in (way[-1].__cause__, way[-1].__context__):
            if one is error:
                return way
            if one is not None and id(one) not in seen:
                seen.add(id(one))
                ways.append([*way, one])
    return []


@contextmanager
def chains_walked() -> Iterator[None]:
    """Check that no distlock exception made meanwhile, in any thread, is its own cause or context."""
    made: list[BaseException] = []
    with pytest.MonkeyPatch.context() as patch:
        for kind in OURS:

            def note(self: BaseException, *args: Any, init: Any = kind.__init__, **kwargs: Any) -> None:
                made.append(self)
                init(self, *args, **kwargs)

            patch.setattr(kind, "__init__", note)
        yield
    assert [circle(error) for error in made if circle(error)] == []
