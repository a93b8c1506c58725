"""Commands under locks, while a nemesis disturbs them and their etcd; a checker reads what happened.

    python -m tests.support.faults.run [--minutes=10] [--seed=N] [--clients=8] [--etcd=BINARY] [--keep=FOLDER]

Ends with 1 if a promise was broken, and prints the seed, every fault and the whole history of the locks concerned. The
seed draws the same options and faults again, though not at the same moments.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from distlock_core.embedded.binary import etcd_version, find_etcdctl
from distlock_core.testing import Cluster, Proxy
from tests.support import etcd_servers
from tests.support.faults.checker import Rules, violations
from tests.support.faults.clients import KILL_AFTER, PATIENCE, SLOTS, Client
from tests.support.faults.etcd import Gateway, Observer
from tests.support.faults.history import Event, History, clock
from tests.support.faults.nemesis import Nemesis

REALM = "/faults/"
LAST = f"{REALM}__last/of-all"  # the key that is written at the very end
SLACK = 3.0  # seconds that a busy machine may delay a kill beyond `kill_after`
QUIET = 1.0  # seconds without a sign of life after which the operator breaks what a dead client has left behind


class Summary(NamedTuple):
    """What was done, and what was found."""

    seed: int
    etcd: str
    seconds: float
    faults: dict[str, int]
    attempts: int
    acquisitions: int
    broken: int
    longest_gap: float
    found: list[str]

    def __str__(self) -> str:
        faults = ", ".join(f"{count} x {fault}" for fault, count in sorted(self.faults.items()))
        return "\n".join(
            [
                f"faults: seed {self.seed}, etcd {self.etcd}, {self.seconds:.0f} s",
                f"  faults        {sum(self.faults.values())}: {faults}",
                f"  attempts      {self.attempts}; acquisitions {self.acquisitions}; left and broken {self.broken}",
                f"  longest time without an acquisition  {self.longest_gap:.1f} s",
                *(f"  WRONG         {one}" for one in self.found),
                f"  {'BAD' if self.found else 'good'}",
            ]
        )


class Field:
    """The cluster, the clients and what stands between; a `with` block leaves none of them."""

    def __init__(self, seed: int, clients: int, etcd: str, folder: Path) -> None:
        self.history = History(folder / "history")
        self.cluster = Cluster.start(3, etcd=etcd, heartbeat_ms=100, election_ms=600, fsync=False)
        self.proxies = [Proxy(endpoint) for endpoint in self.cluster.endpoints]
        # Preferably of the same version: an older one may give up on what a newer etcd says.
        beside = Path(etcd).with_name("etcdctl")
        etcdctl = str(beside) if beside.exists() else find_etcdctl()
        self.gateway = Gateway(self.cluster.endpoints, REALM)
        self.observer = Observer(etcdctl, self.cluster.endpoints, REALM, self.history)
        self.answered: dict[tuple[str, int], float] = {}
        self.alive: dict[tuple[str, int], float] = {}
        self.clients = [
            # One in three is behind proxies, which the nemesis cuts.
            Client(
                f"c{number}",
                seed,
                [proxy.url for proxy in self.proxies] if number % 3 == 0 else self.cluster.endpoints,
                REALM,
                folder,
                self.history,
                http_only=number % 3 == 0,
            )
            for number in range(1, clients + 1)
        ]

    def look(self) -> None:
        """Note which attempts have ended, and when each was last alive."""
        for event in self.history.news():
            if event.what in ("alive", "answered"):
                moments = self.alive if event.what == "alive" else self.answered
                moments[event.who, event.facts["attempt"]] = event.at

    def __enter__(self) -> Field:
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for client in self.clients:
            client.end()
        self.observer.stop()
        for proxy in self.proxies:
            proxy.close()
        self.cluster.stop()
        self.history.close()


def faults(seconds: float, seed: int, clients: int, etcd: str, folder: Path) -> tuple[Summary, list[Event]]:
    """Disturb for `seconds`, let everything come to rest, and check."""
    chance = random.Random(seed)
    with Field(seed, clients, etcd, folder) as field:
        nemesis = Nemesis(chance, field.cluster, field.gateway, field.clients, field.proxies, REALM, field.history)
        began = clock()
        while clock() < began + seconds:
            nemesis.strike()
            _go_on(field, nemesis, chance.uniform(0.1, 1.5))
        while not nemesis.is_calm:
            nemesis.end_what_is_due(all_of_it=True)
        for client in field.clients:
            client.resume()
        field.cluster.wait_ready()
        field.history.write("nemesis", "calm")
        calm = clock()
        _go_on(field, nemesis, PATIENCE / 2, until=lambda: _all_worked(field, calm))
        for client in field.clients:
            client.stop()
        _go_on(field, nemesis, PATIENCE / 2, until=lambda: all(client.join(0) for client in field.clients))
        # What an ended attempt may leave for a moment: tickets whose lease has not expired, what was left behind.
        _go_on(field, nemesis, 30, until=lambda: not _left(field))
        for key in _left(field):
            field.history.write("nemesis", "left", key=key)
        field.gateway.put(LAST, "")
        _go_on(field, nemesis, 30, until=lambda: field.observer.has_seen == LAST)
        assert field.observer.has_seen == LAST, "the observer of etcd has missed the end"
        history = field.history.read()
    rules = Rules(REALM, SLOTS, KILL_AFTER + SLACK)
    return _summary(seed, etcd, clock() - began, nemesis, history, violations(history, rules)), history


def _go_on(field: Field, nemesis: Nemesis, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
    """End faults that are due, and break what dead clients have left, for so long."""
    deadline = clock() + seconds
    while clock() < deadline and not until():
        nemesis.end_what_is_due()
        _operate(field, nemesis)
        time.sleep(0.2)


def _operate(field: Field, nemesis: Nemesis) -> None:
    """Break the holds of attempts that have ended, once nothing has worked under them for a while."""
    field.look()
    try:
        for hold in nemesis.holds():
            who, _, attempt = hold.value.split(";", 2)[1].partition("-")
            mine = (who, int(attempt))
            if hold.lease or mine not in field.answered:
                continue
            is_quiet = clock() > max(field.alive.get(mine, 0.0), field.answered[mine]) + QUIET
            if is_quiet and field.gateway.delete(hold):
                field.history.write("operator", "broken", client=who, attempt=int(attempt), key=hold.name)
    except OSError:
        return  # etcd is away; soon again


def _all_worked(field: Field, since: float) -> bool:
    return len({who for (who, _), at in field.alive.items() if at > since}) == len(field.clients)


def _left(field: Field) -> list[str]:
    return [key.name for key in field.gateway.all_keys() if not key.name[len(REALM) :].startswith("__")]


def _summary(seed: int, etcd: str, seconds: float, nemesis: Nemesis, history: list[Event], found: list[str]) -> Summary:
    firsts: dict[tuple[str, int], float] = {}
    for event in history:
        if event.what == "alive":
            firsts.setdefault((event.who, event.facts["attempt"]), event.at)
    moments = sorted(firsts.values())
    gaps = [after - before for before, after in zip(moments, moments[1:])]
    return Summary(
        seed,
        etcd_version(etcd),
        seconds,
        dict(nemesis.counts),
        sum(event.what == "asked" for event in history),
        len(firsts),
        sum(event.what == "broken" for event in history),
        max(gaps, default=0.0),
        found,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--etcd", default=None)
    parser.add_argument("--keep", type=Path, help="folder for the history and the clients' output")
    options = parser.parse_args()
    print(f"faults: seed {options.seed}", flush=True)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="distlock-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    summary, history = faults(
        options.minutes * 60, options.seed, options.clients, options.etcd or etcd_servers.find("etcd"), folder
    )
    print(summary)
    if summary.found:
        for event in history:
            if event.what not in ("alive", "put", "gone"):
                print(event)
        print(f"The whole history: {folder / 'history'}")
    elif options.keep is None:
        shutil.rmtree(folder)
    return 1 if summary.found else 0


if __name__ == "__main__":
    sys.exit(main())
