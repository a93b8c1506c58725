"""The doctor's examination of a realm, with the settings that have led to it."""

from __future__ import annotations

from distlock_core.doctor.asking import Asking
from distlock_core.lock.realm_facts import read_realm_facts
from distlock_core.model.checks import check_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.base.deadline import Cancel, Patience
    from distlock_core.doctor.finding import Examination
    from distlock_core.doctor.locks import RealmFacts
    from distlock_core.lock.realm_parts import RealmParts
    from distlock_core.settings.options import Settings


def examine(
    of: RealmParts,
    names: str | Sequence[str],
    settings: Settings | None,
    problems: Sequence[str],
    cancel: Cancel | None = None,
    *,
    knows_realm: bool = True,
) -> Examination:
    """`Realm.doctor()`, with the settings that have led to the realm, and what is wrong with them.

    Unless `knows_realm`, its prefix is only the default, and its rights and locks are left alone.
    """
    named = (names,) if isinstance(names, str) and names else names
    locks = tuple(map(of.keys, check_names(named, of.mutex))) if named else ()

    def read(patience: Callable[[], Patience]) -> RealmFacts:
        return read_realm_facts(of.etcd, of.prefix, of.mutex, locks, of.state_dir, patience)

    plain = [keys.name for keys in locks]
    asking = Asking(of.etcd, of.prefix, of.mutex, plain, of.connect_timeout, read, cancel)
    return asking.run(settings, problems, knows_realm=knows_realm)
