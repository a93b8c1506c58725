"""The nemesis: draws faults of etcd, of the network, of the clients and by hand, from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from distlock_core.embedded.binary import etcd_version
from distlock_core.embedded.member import NotStarted
from distlock_core.testing import Cluster, Member, Proxy
from tests.support.faults.clients import TTL, Client
from tests.support.faults.etcd import Gateway, Key
from tests.support.faults.history import History, clock

CRASH = "etcd ended by itself"
RESUMES_SAFELY = (3, 5, 13)  # before it, a leader that was stopped and resumed can end a lease that is alive
RESTART = 2.0  # seconds that a member may take to stop in order


class Later(NamedTuple):
    """What ends a fault, and when."""

    at: float
    what: Callable[[], None]


class Nemesis:
    """Commits faults, and ends each after a time of its own. One member, and some clients, at a time."""

    def __init__(
        self,
        chance: random.Random,
        cluster: Cluster,
        gateway: Gateway,
        clients: Sequence[Client],
        proxies: Sequence[Proxy],
        realm: str,
        history: History,
    ) -> None:
        self._chance = chance
        self._cluster = cluster
        self._gateway = gateway
        self._clients = clients
        self._proxies = proxies
        self._realm = realm
        self._history = history
        self._later: list[Later] = []
        self._down: Member | None = None
        self.counts: Counter[str] = Counter()
        version = tuple(int(part) for part in etcd_version(cluster.etcd).split(".")[:3])
        self._resumes_safely = version >= RESUMES_SAFELY

    def strike(self) -> None:
        """One fault, unless the one that was drawn makes no sense now."""
        strikes = [
            (self._member, 3),
            (self._network, 3),
            (self._kill_client, 3),
            (self._pause_client, 3),
            (self._delete_hold, 2),
            (self._revoke, 2),
            (self._delete_ticket, 1),
            (self._freeze, 1),
            (self._maintain, 1),
        ]
        strike = self._chance.choices([one for one, _ in strikes], [weight for _, weight in strikes])[0]
        try:
            done = strike()
        except OSError as error:  # etcd is away, or what was drawn is gone by now
            self._history.write("nemesis", "failed", fault=strike.__name__.strip("_"), error=str(error)[:200])
            return
        if done:
            self.counts[done] += 1
            self._history.write("nemesis", "fault", fault=done)

    def end_what_is_due(self, *, all_of_it: bool = False) -> None:
        for member in self._cluster.members:
            if member is not self._down and member.pid is None:  # etcd 3.5.0 to 3.5.4 end when a client goes away
                self.counts[CRASH] += 1
                member.start()
        now = clock()
        due = [later for later in self._later if all_of_it or later.at <= now]
        self._later = [later for later in self._later if later not in due]
        for later in due:
            try:
                later.what()
            except OSError as error:
                self._history.write("nemesis", "failed", fault="end", error=str(error)[:200])
                self._after(0.5, later.what)

    @property
    def is_calm(self) -> bool:
        """True when every fault has been ended."""
        return not self._later

    def _after(self, seconds: float, what: Callable[[], None]) -> None:
        self._later.append(Later(clock() + seconds, what))

    def _member(self) -> str:
        if self._down is not None:
            return ""
        leaders = [member for member in self._cluster.members if member.is_leader()]
        victim = leaders[0] if leaders and self._chance.random() < 0.5 else self._chance.choice(self._cluster.members)
        self._down = victim
        what = self._chance.choice(["kill", "restart", "pause"])
        end: Callable[[], None] = victim.start
        if what == "pause":
            victim.pause()
            if self._resumes_safely or victim not in leaders:
                end = victim.resume
            else:

                def end() -> None:
                    victim.kill()
                    victim.start()

        elif what == "kill":
            victim.kill()
        else:
            victim.terminate()

            def end() -> None:  # newer versions wait 7 s for the end of all watches
                victim.stop(RESTART)
                victim.start()

        self._after(self._chance.uniform(0.5, TTL * 1.5), lambda: self._is_back(victim, end))
        return f"{what} {'leader' if victim in leaders else 'follower'}"

    def _is_back(self, victim: Member, end: Callable[[], None]) -> None:
        end()
        for _ in range(3):
            try:
                victim.wait_ready()
                break
            except NotStarted:  # ended by itself, as above
                self.counts[CRASH] += 1
                victim.start()
        self._down = None

    def _network(self) -> str:
        what = self._chance.choice(["cut", "blackhole", "mute", "silence", "delay", "lose_reply", "lose_request"])
        proxies = self._proxies if self._chance.random() < 0.4 else [self._chance.choice(self._proxies)]
        for proxy in proxies:
            if what == "delay":
                proxy.delay(self._chance.uniform(0.05, 0.5))
            elif what.startswith("lose"):
                getattr(proxy, what)("/v3/kv/txn", times=self._chance.randint(1, 3))
            else:
                getattr(proxy, what)()
            if not what.startswith("lose"):
                self._after(self._chance.uniform(0.5, TTL * 1.5), proxy.heal)
        return what

    def _kill_client(self) -> str:
        return "SIGKILL" if self._victim().kill() else ""

    def _victim(self) -> Client:
        """A client; as likely as not, one that holds a lock."""
        hold = self._one_of(self.holds()) if self._chance.random() < 0.5 else None
        owner = hold.value.split(";", 2)[1].partition("-")[0] if hold is not None else ""
        return next((client for client in self._clients if client.name == owner), self._chance.choice(self._clients))

    def _pause_client(self) -> str:
        victim = self._victim()
        if not victim.pause():
            return ""
        self._after(self._chance.uniform(0.2, TTL * 2), victim.resume)
        return "SIGSTOP"

    def _delete_hold(self) -> str:
        hold = self._one_of(self.holds())
        if hold is None:
            return ""
        self._history.write("nemesis", "deleting", key=hold.name, token=hold.created)
        if not self._gateway.delete(hold):
            return ""
        self._history.write("nemesis", "deleted", key=hold.name, token=hold.created)
        return "delete hold"

    def _revoke(self) -> str:
        hold = self._one_of([hold for hold in self.holds() if hold.lease])
        if hold is None:
            return ""
        for one in self.holds():
            if one.lease == hold.lease:
                self._history.write("nemesis", "deleting", key=one.name, token=one.created)
        self._gateway.revoke(hold.lease)
        return "revoke"

    def _delete_ticket(self) -> str:
        ticket = self._one_of([key for key in self._gateway.all_keys() if "/queue/" in key.name])
        return "delete ticket" if ticket is not None and self._gateway.delete(ticket) else ""

    def _freeze(self) -> str:
        key = f"{self._realm}__freeze"
        self._gateway.put(key, f"{int(clock())};nemesis;{{}}")
        self._after(self._chance.uniform(0.2, 3), lambda: self._gateway.remove(key))
        return "freeze"

    def _maintain(self) -> str:
        if self._chance.random() < 0.5:
            self._gateway.compact()
            return "compact"
        self._gateway.call("/v3/maintenance/defragment", {}, timeout=10)
        return "defragment"

    def holds(self) -> list[Key]:
        """The keys of all holds of the realm."""
        found = []
        for key in self._gateway.all_keys():
            name = key.name[len(self._realm) :]
            if not name.startswith("__") and "/queue/" not in name and not name.endswith("/freeze"):
                found.append(key)
        return found

    def _one_of(self, keys: Sequence[Key]) -> Key | None:
        return self._chance.choice(keys) if keys else None
