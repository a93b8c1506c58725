"""LockManager with several names: it has all of the locks, or none."""

from __future__ import annotations

from typing import Callable

import pytest

from distlock_core import ConfigError, LockManager, Realm
from distlock_core.events.notices import ACQUIRED, REMOVED
from tests.support.etcd_view import Etcd
from tests.support.managers import Heard, holders
from tests.support.processes import wait_until

Stand = Callable[..., LockManager]
BOTH = ["rack", "web"]
TTL = 60  # where an expiry would be far too late to be what has helped


def test_of_managers_that_name_them_in_opposite_orders_one_has_all(stand: Stand, in_etcd: Etcd) -> None:
    managers = [stand(BOTH, ttl=TTL), stand(BOTH[::-1], ttl=TTL), stand(tuple(BOTH), ttl=TTL)]
    while managers:
        (holder,) = wait_until(lambda: [one for one in managers if one.have_lock()], "a holder")
        assert sorted(holder.tokens) == BOTH
        assert [manager.tokens for manager in managers if manager is not holder] == [{}] * (len(managers) - 1)
        holder.shutdown()
        assert (holder.have_lock(), holder.tokens) == (False, {})
        managers.remove(holder)
    in_etcd.assert_nothing_left()


def test_it_has_none_while_one_is_held_and_has_all_when_that_is_released(
    stand: Stand, realm: Realm, in_etcd: Etcd
) -> None:
    in_etcd.lock("web", "node-3")
    manager = stand(BOTH, ttl=TTL)
    wait_until(lambda: realm.show("rack").waiting == 1 and realm.show("web").waiting == 1, "it waits for both")
    assert (manager.have_lock(), realm.show("rack").holders) == (False, ())
    in_etcd.unlock("web")
    wait_until(manager.have_lock, "both")
    tokens = {state.name: state.holders[0].token for state in realm.show_all(BOTH)}
    assert manager.tokens == tokens


def test_the_loss_of_one_is_the_loss_of_all_and_it_stands_for_all_again(
    stand: Stand, realm: Realm, in_etcd: Etcd
) -> None:
    heard = Heard()
    manager = stand(BOTH, ttl=TTL, listener=heard)
    wait_until(manager.have_lock, "both")
    first = manager.tokens["rack"]
    realm.unlock("web", force=True)
    wait_until(lambda: manager.have_lock() and manager.tokens["rack"] > first, "both again")
    notices = heard.until(ACQUIRED, REMOVED, ACQUIRED)
    assert {notice.lock for notice in notices} == {"rack and web"}
    assert notices[-1].token == manager.tokens["rack"]


def test_the_value_of_all_is_changed(stand: Stand, realm: Realm) -> None:
    manager = stand(BOTH, ttl=TTL, value="one")
    wait_until(manager.have_lock, "both")
    assert manager.update("two")
    assert [realm.get(name) for name in BOTH] == ["two", "two"]


def test_a_token_of_several_is_asked_for_by_name(stand: Stand, realm: Realm) -> None:
    manager = stand(BOTH, ttl=TTL)
    assert (manager.name, manager.names) == ("rack and web", ("rack", "web"))
    with pytest.raises(ConfigError, match="rack and web are several locks: ask for the token of each"):
        _ = manager.token
    for wrong in ([], ["a", "a"], ["a", "b/c"], [f"n{number}" for number in range(17)]):
        with pytest.raises(ConfigError):
            LockManager(realm, wrong)
    one = stand(["alone"], ttl=TTL)
    wait_until(one.have_lock, "the one")
    assert one.tokens == {"alone": one.token}
    assert holders([one]) == [one]
