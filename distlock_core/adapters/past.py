"""The history of locks as Salt and Ansible return it."""

from __future__ import annotations

import time

from distlock_core.adapters.settings import names_of
from distlock_core.settings.options import Setting
from distlock_core.settings.readers import read_span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.lock.realm import Realm


def entries_of(realm: Realm, name: object, since: object) -> list[dict[str, Any]]:
    """The entries of these locks, or of the whole realm, as in `--history --json`.

    `name` is a name, a list of names, or None. `since` is a number of seconds, optionally with a unit; what ended
    before is left out. Raises `ConfigError`, and as `Realm.history()`.
    """
    age = None if since is None else Setting("since", "since", read_span, None).value(since, "since")
    names = None if name is None else names_of(name)
    with realm.history(names, since=None if age is None else time.time() - age) as found:
        return [entry.fields() for entry in found]
