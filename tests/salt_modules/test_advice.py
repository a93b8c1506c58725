"""Salt's advice, executed as it is worded by `salt-call --local`, in a realm that is not the minion's own."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any, Callable

import pytest

from distlock_core import connect, hints
from distlock_core.adapters.advice import SALT
from distlock_core.errors import DistlockError
from distlock_core.hints import DATA, Hint
from distlock_core.testing import Cluster
from tests.support.etcd_servers import NEWEST
from tests.support.etcd_view import Etcd, b64
from tests.support.salt_minions import Minion, State

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
NAME = "it's a lock; or $HOME"
DETAILS = {"run": "r", "explicit": True, "host": "far", "pid": 1, "boot": "b", "start": 1, "limit": 1}


def behind(words: str, line: str) -> list[str]:
    """The arguments for salt-call in the sentence that begins like this."""
    found = re.search(rf"{re.escape(words)}(.*?)(?:\. [A-Z]|$)", line)
    assert found is not None, line
    return shlex.split(found[1])


class Site:
    """A realm that differs from the minion's own."""

    def __init__(self, minion: Minion, cluster: Cluster, prefix: str, *where: str, **settings: Any) -> None:
        self.minion, self.where = minion, (f"prefix={prefix}", *where)
        self.cluster, self.prefix = cluster, prefix
        self.at = connect(cluster.endpoints, prefix, **settings)

    def lock(self, owner: str, *arguments: str) -> int:
        token = self.minion.call("distlock.lock", NAME, f"owner={owner}", *arguments, *self.where)["token"]
        assert isinstance(token, int)
        return token

    def refused(self, function: str, *arguments: str) -> str:
        return self.minion.refused(f"distlock.{function}", NAME, *arguments, *self.where)

    def shows(self, command: list[str], owner: str) -> None:
        (shown,) = self.minion.call(*command)
        assert (shown["lock"], shown["owner"]) == (NAME, owner)

    def releases(self, command: list[str]) -> None:
        assert self.minion.call(*command)["lock"] == NAME
        assert self.at.show(NAME).holders == ()


@pytest.fixture
def site(new_minion: Callable[..., Minion], etcd: Cluster, realm_prefix: str) -> Site:
    minion = new_minion(distlock={"endpoints": ["http://127.0.0.1:1"], "prefix": "/not here/"})
    return Site(minion, etcd, f"{realm_prefix}else where/", f"endpoints={etcd.endpoints[0]}")


def check_show(site: Site) -> None:
    site.lock("other")
    site.shows(behind("See: ", site.refused("lock")), "other")


def check_break(site: Site) -> None:
    site.lock("other")
    site.releases(behind("To break it: ", site.refused("unlock")))


def check_same_slots(site: Site) -> None:
    site.lock("other", "slots=2")
    word, number = behind("Use the same number everywhere: ", site.refused("lock", "slots=3"))
    site.lock("me", f"{word.rstrip(':')}={number}")


def put(site: Site, name: str, record: str) -> None:
    Etcd(site.cluster, site.prefix).ask("/v3/kv/put", {"key": b64(site.prefix + name), "value": b64(record)})


def check_unlock_dead_run(site: Site) -> None:
    # A run of this owner on a machine that cannot be seen from here.
    put(site, NAME, f"1500000000;salt:m0;{json.dumps({**DETAILS, 'kind': 'run'})}")
    site.releases(behind("If you are sure that it has ended: ", site.refused("lock")))


def worded(site: Site, hint: Hint) -> str:
    """For what takes a fault of etcd or a second machine: the hint alone, as Salt words it."""
    error = DistlockError("etcd is away", hints=[hint])
    error.realm_settings = {"endpoints": site.cluster.endpoints, "prefix": site.prefix}
    return SALT.said(error)


def check_unlock_later(site: Site) -> None:
    token = site.lock("other")
    line = worded(site, Hint(hints.UNLOCK_LATER, lock=NAME, owner="other", token=token))
    site.releases(behind("When etcd is back: ", line))


def check_unlock_step(site: Site) -> None:
    token = site.lock("other")
    line = worded(site, Hint(hints.UNLOCK_STEP, lock=NAME, owner="other", token=token))
    site.releases(behind("To release it anyway: ", line))


def check_enter(site: Site) -> None:
    token = site.lock("other")
    line = worded(site, Hint(hints.ENTER, lock=NAME, owner="other", token=token))
    site.releases(behind("To release it anyway: ", line))


def check_choose_token(site: Site) -> None:
    token = site.lock("other")
    line = worded(site, Hint(hints.CHOOSE_TOKEN, lock=NAME, owner="other", tokens=[token]))
    command = behind(f"Choose one (TOKEN is one of {token}): ", line)
    site.releases([f"token={token}" if word == "token=TOKEN" else word for word in command])


def check_thaw(site: Site) -> None:
    site.at.freeze(NAME)
    site.minion.call(*behind("To thaw it: ", site.refused("lock")))
    site.lock("me")


def check_thaw_realm(site: Site) -> None:
    site.at.freeze()
    site.minion.call(*behind("To thaw it: ", site.refused("lock")))
    site.lock("me")


def check_replace_freeze(site: Site) -> None:
    site.at.freeze(NAME, owner="other")
    site.minion.call("distlock.freeze", NAME, *behind("To replace it: ", site.refused("freeze")), *site.where)
    freeze = site.at.frozen(NAME)
    assert freeze is not None
    assert freeze.by != "other"


def check_policy(site: Site) -> None:
    put(site, f"__policy/{NAME}", '1;admin;{"quorum":3}')
    shown = site.minion.call(*behind("See: ", site.refused("lock")))
    assert "quorum" in str(shown)


def check_open_window(site: Site) -> None:
    site.at.set_policy(NAME, window="Mon 03:00-04:00")
    shown = site.minion.call(*behind("Its window is in its policy: ", worded(site, Hint(hints.OPEN_WINDOW, lock=NAME))))
    assert "Mon 03:00-04:00" in str(shown)


def check_resolve(site: Site) -> None:
    site.lock("other")
    line = worded(site, Hint(hints.RESOLVE, lock=NAME, owner="other", run="r"))
    look, _, unlock = line.partition("Check with ")[2].partition("; if that run holds it: ")
    site.shows(shlex.split(look), "other")
    site.releases(shlex.split(unlock))


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
NO_COMMAND = {
    "change_token": "Salt changes no value of a lock",
    "same_owner": "names an argument of two states: tried below",
    "raw_prefix": "names a setting of the minion: tried below",
    "set_endpoints": "names a setting of the minion: tried below",
    "show_key": "names etcdctl, for a raw key outside any realm",
}


def test_every_hint_is_executed_or_has_a_reason_not_to_be() -> None:
    assert not CHECKS.keys() & NO_COMMAND.keys()
    assert CHECKS.keys() | NO_COMMAND.keys() == DATA.keys()


@pytest.mark.parametrize("code", sorted(CHECKS))
def test_the_advice_of_a_hint_works(site: Site, code: str) -> None:
    CHECKS[code](site)


def test_the_advice_works_in_an_etcd_with_tls(
    new_minion: Callable[..., Minion], etcd_cell: Callable[[str, str], Cluster], realm_prefix: str
) -> None:
    cluster = etcd_cell(NEWEST, "tls")
    minion = new_minion(distlock={**cluster.settings, "endpoints": cluster.endpoints, "prefix": "/not here/"})
    site = Site(minion, cluster, f"{realm_prefix}else where/", **cluster.settings)
    site.lock("other")
    site.shows(behind("See: ", site.refused("lock")), "other")
    site.releases(behind("To break it: ", site.refused("unlock")))


def test_advice_that_names_a_setting_of_the_minion_works(
    new_minion: Callable[..., Minion], etcd: Cluster, realm_prefix: str
) -> None:
    settings: dict[str, Any] = {"endpoints": etcd.endpoints, "prefix": f"{realm_prefix}/twice"}
    said = new_minion("m1", distlock=settings).refused("distlock.lock", NAME)
    found = re.search(r"If the Go original uses this prefix: (\w+): True under distlock: in minion config", said)
    assert found is not None, said
    assert new_minion("m2", distlock={**settings, found[1]: True}).call("distlock.lock", NAME)["token"]

    said = new_minion("m3", distlock={"prefix": realm_prefix, "connect_timeout": 1}).refused("distlock.lock", NAME)
    found = re.search(r"No endpoint is configured: set (\w+) under distlock: in minion config", said)
    assert found is not None, said
    told = new_minion("m4", distlock={"prefix": realm_prefix, found[1]: etcd.endpoints})
    assert told.call("distlock.lock", NAME)["token"]


def test_the_advice_to_give_both_the_same_owner_works(minion: Minion) -> None:
    def run(lock: str, outer: dict[str, str], inner: dict[str, str]) -> State:
        steps = minion.steps(
            outer=("distlock.locked", {"name": lock, "until": "run_end", **outer}),
            inner=("distlock.locked", {"name": lock, "timeout": 60, **inner}),
        )
        assert steps["outer"].result is True, steps
        return steps["inner"]

    refused = run(NAME, {"owner": "outer"}, {"owner": "inner"})
    assert refused.result is False, refused
    found = re.search(r"Give both the same (\w+), so that the inner one can enter it$", refused.comment)
    assert found is not None, refused
    same = {found[1]: "both"}
    entered = run("another", same, same)
    assert entered.result is True, entered
