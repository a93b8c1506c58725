"""Names of the locks of a realm, with those that are free, for the completion of a line in a shell."""

from __future__ import annotations

from distlock_core.base.deadline import Patience
from distlock_core.etcd.values import Get, prefix_end
from distlock_core.lock.realm import parts_of
from distlock_core.lock.status import name_of
from distlock_core.model.keys import ends, last_prefix, policy_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.lock.realm import Realm

MOST_NAMES = 5000  # keys whose names are offered to a person who is typing, of each kind


def known_names(realm: Realm) -> list[str]:
    """Names of locks that are held, waited for, frozen or under a policy, or that were held before, sorted.

    They are read in one request, without the records. Of very many keys some are left out.
    """
    of = parts_of(realm)
    prefix, patience = of.prefix, Patience.lasting(of.connect_timeout)
    start, last, policies = prefix.encode(), last_prefix(prefix), policy_prefix(prefix)
    ranges = ((start, last), ends(last), ends(policies), (prefix_end(policies), prefix_end(start)))
    names: set[str | None] = set()
    for found in of.etcd.read([Get(*one, keys_only=True, limit=MOST_NAMES) for one in ranges], patience).ranges():
        for kv in found.kvs:
            noted = next((kv.key[len(one) :] for one in (last, policies) if kv.key.startswith(one)), None)
            names.add(name_of(kv.key if noted is None else start + noted, prefix, of.mutex))
    return sorted(name for name in names if name is not None)
