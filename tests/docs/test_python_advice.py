"""The advice of errors for users of the Python library, executed as it is worded, on the realm of the error."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from typing import Any, Callable

import pytest

from distlock_core import DistlockError, EtcdUnavailable, Realm, connect, hints
from distlock_core.hints import DATA, Hint
from distlock_core.model.state import LockState
from distlock_core.process.identity import trace_of
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_view import Etcd, b64
from tests.support.scene import TXN, puts
from tests.support.time_windows import closed_now

NAME = 'it\'s a lock; or "$HOME"'
NOBODY = "http://127.0.0.1:1"


class Site:
    """A realm, and Python as its user would type it."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self.cluster, self.prefix = cluster, prefix
        self.realm = connect(cluster.endpoints, prefix)

    def typed(self, expression: str) -> Any:
        return eval(expression, {"realm": self.realm, "connect": connect})

    def put(self, name: str, record: str) -> None:
        Etcd(self.cluster, self.prefix).ask("/v3/kv/put", {"key": b64(self.prefix + name), "value": b64(record)})

    def is_free(self) -> bool:
        return self.realm.show(NAME).holders == ()

    def shows(self, expression: str, owner: str) -> None:
        shown = self.typed(expression)
        assert isinstance(shown, LockState)
        assert [holder.owner for holder in shown.holders] == [owner]

    def releases(self, expression: str) -> None:
        assert not self.is_free()
        assert self.typed(expression).lock == NAME
        assert self.is_free()


@pytest.fixture
def site(etcd: Cluster, realm_prefix: str) -> Site:
    return Site(etcd, f"{realm_prefix}else where/")


def said(work: Callable[[], object]) -> str:
    """The error that this raises, with its advice."""
    with pytest.raises(DistlockError) as caught:
        work()
    return str(caught.value)


def behind(words: str, line: str) -> str:
    """The rest of the sentence that begins like this."""
    found = re.search(rf"{re.escape(words)}(.*?)(?:\. [A-Z]|$)", line)
    assert found is not None, line
    return found[1]


def step_of_a_living_process(site: Site) -> subprocess.Popen[bytes]:
    taker = subprocess.Popen(["sleep", "600"])
    site.realm.lock(NAME, "me", step=True, taker=trace_of(taker.pid)).acquire(0)
    return taker


def check_show(site: Site) -> None:
    site.realm.lock(NAME, "other").acquire(0)
    site.shows(behind("See: ", said(lambda: site.realm.lock(NAME, "me").acquire(0))), "other")


def check_enter(site: Site) -> None:
    with step_of_a_living_process(site) as taker:
        line = said(lambda: site.realm.lock(NAME, "me").acquire(0))
        entered = site.typed(behind("To enter it anyway: ", line)).acquire(0)
        assert entered.held
        entered.release()
        assert not site.is_free()
        taker.kill()


def check_unlock_step(site: Site) -> None:
    with step_of_a_living_process(site) as taker:
        line = said(lambda: site.realm.unlock(NAME, "me", taker=trace_of()))
        site.releases(behind("To release it anyway: ", line))
        taker.kill()


def check_unlock_dead_run(site: Site) -> None:
    # A run of this owner on a machine that cannot be seen from here.
    details = {"run": "r", "explicit": True, "kind": "run", "host": "far", "pid": 1, "boot": "b", "start": 1}
    site.put(NAME, f"1500000000;me;{json.dumps(details)}")
    line = said(lambda: site.realm.lock(NAME, "me").acquire(0))
    site.releases(behind("If you are sure that it has ended: ", line))


def check_break(site: Site) -> None:
    site.realm.lock(NAME, "other").acquire(0)
    site.releases(behind("To break it: ", said(lambda: site.realm.unlock(NAME, "me"))))


def argument_and_tokens(words: str, line: str) -> tuple[str, list[str]]:
    """The argument in this sentence, and the tokens that are offered for it."""
    found = re.fullmatch(r"(token=) \(([\d, ]+)\)", behind(words, line))
    assert found is not None, line
    return found[1], found[2].split(", ")


def check_choose_token(site: Site) -> None:
    locks = [site.realm.lock(NAME, "me", slots=2).acquire(0) for _ in range(2)]
    argument, tokens = argument_and_tokens("Choose one with ", said(lambda: site.realm.unlock(NAME, "me")))
    assert tokens == [str(lock.token) for lock in locks]
    for token in tokens:
        site.typed(f"realm.unlock({NAME!r}, {argument}{token})")
    assert site.is_free()


def check_change_token(site: Site) -> None:
    site.realm.lock(NAME, "other").acquire(0)
    line = said(lambda: site.realm.update(NAME, "new", owner="me"))
    argument, (token,) = argument_and_tokens("To change it anyway, name it with ", line)
    assert site.typed(f"realm.update({NAME!r}, 'new', {argument}{token})").value == "new"


def check_same_slots(site: Site) -> None:
    site.realm.lock(NAME, "other", slots=2).acquire(0)
    line = said(lambda: site.realm.lock(NAME, "me", slots=3).acquire(0))
    argument = behind("Use the same number everywhere: ", line)
    assert site.typed(f"realm.lock({NAME!r}, 'me', {argument})").acquire(0).holder.slot == 1


def check_same_owner(site: Site) -> None:
    outer = site.realm.lock(NAME).acquire(0)
    around = {outer.key.encode(): outer.token}
    line = said(lambda: site.realm.lock(NAME, inside=around).acquire(5))
    argument = behind("Give both the same ", line).partition(",")[0]
    outer.release()
    outer = site.typed(f"realm.lock({NAME!r}, {argument}'me')").acquire(0)
    around = {outer.key.encode(): outer.token}
    inner = eval(f"lock({NAME!r}, {argument}'me', inside=around)", {"lock": site.realm.lock, "around": around})
    assert inner.acquire(5).token == outer.token


def check_thaw(site: Site) -> None:
    site.realm.freeze(NAME)
    site.typed(behind("To thaw it: ", said(lambda: site.realm.lock(NAME).acquire(0))))
    assert site.realm.lock(NAME).acquire(0).held


def check_thaw_realm(site: Site) -> None:
    site.realm.freeze()
    site.typed(behind("To thaw it: ", said(lambda: site.realm.lock(NAME).acquire(0))))
    assert site.realm.lock(NAME).acquire(0).held


def check_replace_freeze(site: Site) -> None:
    site.realm.freeze(NAME, owner="other")
    argument = behind("To replace it: ", said(lambda: site.realm.freeze(NAME, owner="me")))
    assert site.typed(f"realm.freeze({NAME!r}, owner='me', {argument})").by == "me"


def check_policy(site: Site) -> None:
    site.put(f"__policy/{NAME}", '1;admin;{"quorum":3}')
    policy = site.typed(behind("See: ", said(lambda: site.realm.lock(NAME).acquire(0))))
    assert (policy.lock, policy.by) == (NAME, "admin")


def check_open_window(site: Site) -> None:
    site.realm.set_policy(NAME, window=closed_now())
    (window,) = [one for one in site.realm.explain(NAME).conditions if one.topic == "window"]
    site.typed(behind("To open it at all times: ", hints.sentence(window.hints[0], hints.PYTHON, repr)))
    site.realm.lock(NAME).acquire(0).release()


def check_resolve(site: Site) -> None:
    """A claim is applied, but its reply is lost, and etcd does not answer until the caller gives up."""
    with Proxy(site.cluster.endpoints[0]) as proxy:
        held = proxy.hold_reply(TXN, puts(site.prefix.encode() + NAME.encode()))
        lock = connect(proxy.url, site.prefix, connect_timeout=2).lock(NAME, "me")

        def go_away() -> None:
            held.wait()
            proxy.cut()

        going = threading.Thread(target=go_away)
        going.start()
        line = said(lambda: lock.acquire(3))
        going.join()
    look, _, release = line.partition("Check with ")[2].partition("; if that run holds it: ")
    site.shows(look, "me")
    site.releases(release)


def check_unlock_later(site: Site) -> None:
    """The library itself gives this advice in no error: the commands do, after a failed release."""
    lock = site.realm.lock(NAME, "me").acquire(0)
    line = str(DistlockError("etcd is away", hints=[Hint(hints.UNLOCK_LATER, lock=NAME, owner="me", token=lock.token)]))
    site.releases(behind("When etcd is back: ", line))


def check_raw_prefix(site: Site) -> None:
    prefix = f"{site.prefix}/twice"
    call = behind("If the Go original uses this prefix: ", said(lambda: connect(site.cluster.endpoints, prefix)))
    realm = site.typed(call.replace("...", f"{site.cluster.endpoints!r}, {prefix!r}"))
    assert isinstance(realm, Realm)
    realm.lock("x").acquire(0).release()


def check_set_endpoints(site: Site) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distlock_core.connection.DEFAULT_ENDPOINTS", [NOBODY])
        realm = connect(prefix=site.prefix, connect_timeout=0.5)
    with pytest.raises(EtcdUnavailable) as caught:
        realm.lock("x").acquire(0)
    call = behind("No endpoint is given: ", str(caught.value))
    site.typed(call.replace("http://HOST:2379", site.cluster.endpoints[0])).list()


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
NO_CALL = {"show_key": "names a raw key, outside any realm"}


def test_every_hint_is_executed_or_has_a_reason_not_to_be() -> None:
    assert not CHECKS.keys() & NO_CALL.keys()
    assert CHECKS.keys() | NO_CALL.keys() == DATA.keys()


@pytest.mark.parametrize("code", sorted(CHECKS))
def test_the_advice_of_a_hint_works(site: Site, code: str) -> None:
    CHECKS[code](site)
