"""docs/library.md names every public member of the library's classes, and no other."""

from __future__ import annotations

import inspect
import re

import pytest

from distlock_core import LockManager, aio
from distlock_core.lock.lock import Lock
from distlock_core.lock.realm import Realm
from distlock_core.lock.session import Session
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
NAMED = {"lock": Lock, "realm": Realm, "manager": LockManager, "session": Session}
OWN_OF_AIO = {"sync", "manager"}  # the object underneath; AsyncRealm.manager()


def members(kind: type) -> set[str]:
    """The public methods and properties of a class, and the attributes that its methods set."""
    found = {name for base in kind.__mro__[:-1] for name in vars(base)}
    found |= set(re.findall(r"\bself\.(\w+)(?:: [^=\n]+)?(?:, self\.\w+)* = ", inspect.getsource(kind)))
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize("word", NAMED)
def test_the_page_names_every_public_member_and_no_other(word: str) -> None:
    named = set(re.findall(rf"(?<![\w./])(?:lock\.)?{word}\.([a-z]\w*)", PAGE)) - OWN_OF_AIO
    public = members(NAMED[word])
    assert len(public) > 10
    assert public - named == set(), "not in docs/library.md"
    assert named - public == set(), "not in the class"


@pytest.mark.parametrize(
    ("kind", "sync"), [(aio.AsyncLock, Lock), (aio.AsyncRealm, Realm), (aio.AsyncLockManager, LockManager)]
)
def test_the_classes_for_asyncio_have_no_additional_verb(kind: type, sync: type) -> None:
    assert members(kind) - members(sync) <= OWN_OF_AIO
