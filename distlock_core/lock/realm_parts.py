"""The parts of a realm, for requests that are none of its own verbs: `parts_of()` in `lock/realm.py`."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.model.checks import check_name
from distlock_core.model.keys import Keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.client import Etcd


class RealmParts(Value):
    """etcd, the prefix and the name of the Go original's mutex, the time limits, and the state directory."""

    etcd: Etcd
    prefix: str
    mutex: str
    connect_timeout: float
    release_timeout: float
    state_dir: str | None

    def keys(self, name: str) -> Keys:
        """The keys of a lock. Raises `ConfigError`."""
        return Keys(self.prefix, check_name(name, self.mutex), self.mutex)
