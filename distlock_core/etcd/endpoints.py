"""The endpoints of one etcd cluster: the order in which they are tried, and the time that each gets."""

from __future__ import annotations

from distlock_core.base.deadline import FOREVER, Backoff, Patience, jittered, now
from distlock_core.errors import AnotherCluster, EtcdUnavailable
from distlock_core.etcd.address import Address
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.http1 import ConnectionLost

LONGEST_ATTEMPT = 5.0  # seconds that one member may take to answer, even if the caller would wait forever
SHORTEST_ATTEMPT = 0.25  # seconds; below this a healthy member under load would look dead
TIMED_OUT = "timed out"
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.5  # seconds between two rounds over all endpoints
# Seconds for which an endpoint that has turned its clients away is not asked: from its Retry-After, or growing.
FIRST_REST, LONGEST_REST, MOST_TOLD = 0.5, 10.0, 60.0
RECENT = 60.0  # seconds for which the last failure of an endpoint is reported


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from distlock_core.etcd.discovery import Discovery
    from distlock_core.hints import Hint


class WrongCluster(ConnectionLost):
    """An endpoint of another cluster has answered: its answer is ignored."""


class Attempt:
    """One try at one endpoint. The caller records how it failed, or stops the iteration."""

    def __init__(self, address: Address, patience: Patience, floor: int = 0) -> None:
        """`floor`: the last revision of etcd known before this try."""
        self.address = address
        self.patience = patience
        self.failure: str | None = None
        self.astray = False  # it failed because another cluster has answered
        self.in_vain = False  # it would fail the same way again
        self.shut_for: float | None = None  # seconds for which the endpoint has turned clients away; 0 if it gave none
        self.floor = floor

    def leave_some(self, others: int) -> None:
        """Reserve a share of the time for each of the `others`, further addresses of this endpoint's name."""
        self.patience = self.patience.within(self.patience.left() / (others + 1))


class _Rest:
    """The time until which an endpoint is not asked, and the reason."""

    def __init__(self, attempt: Attempt, before: _Rest | None) -> None:
        self.why = attempt.failure or TIMED_OUT
        self.growing: float = FIRST_REST if before is None else min(before.growing * 2, LONGEST_REST)
        seconds = min(attempt.shut_for or self.growing, MOST_TOLD)
        self.until = now() + jittered(seconds, 1, 1.25)


def seconds_to_wait(retry_after: str | None) -> float:
    """The seconds in a Retry-After header; 0 without one, or if it cannot be parsed."""
    said = (retry_after or "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        import calendar
        import time

        then = calendar.timegm(time.strptime(said, "%a, %d %b %Y %H:%M:%S GMT"))
        return max(0.0, then - time.time())
    except (ValueError, OverflowError, ImportError, OSError):
        return 0.0


class Endpoints:
    """The endpoints in order. The one that answered last is asked first."""

    def __init__(
        self, addresses: Sequence[Address], hints: Sequence[Hint] = (), discovery: Discovery | None = None
    ) -> None:
        """`hints` go with the error if none answers. `discovery` is used if none of these addresses answers."""
        self._given = list(addresses)
        self._addresses = list(addresses)
        self._discovery = discovery
        self._undiscovered = not addresses
        self._first = 0
        self._hints = hints
        self._known: set[str] = set()
        self._rests: dict[str, _Rest] = {}
        self._last_failure: tuple[str, float] = ("", 0.0)  # its message and time
        self.cluster: int | None = None  # the cluster id in the first answer
        self._revision = 0  # the cluster's last known revision
        self.term = 0  # the latest raft term in an answer about a lease
        self._members: frozenset[str] = frozenset()

    @property
    def current(self) -> Address:
        return self._addresses[self._first] if self._addresses else Address(str(self._discovery), "", 0)

    @property
    def count(self) -> int:
        return max(1, len(self._addresses))

    def known(self, patience: Patience) -> tuple[list[Address], str]:
        """All endpoints, the configured and the discovered ones, and why the discovery has failed, if it has."""
        failures: dict[str, str] = {}
        if self._discovery is not None:
            self._discover(self._discovery, patience, failures)
        return list(self._addresses), "; ".join(f"{what} ({why})" for what, why in failures.items())

    def answered(self, address: Address, cluster: int | None = None) -> None:
        """Ask this address first from now on. Raises `WrongCluster` if the cluster id has changed."""
        if cluster is not None:
            self.check_cluster(cluster)
        self._undiscovered = False
        self._known.add(address.url)
        self._rests.pop(address.url, None)
        if address in self._addresses:  # else another thread has done a discovery meanwhile
            self._first = self._addresses.index(address)

    def check_cluster(self, cluster: int) -> None:
        """Raise `WrongCluster` if this cluster id is not that of the first answer."""
        if self.cluster is None:
            self.cluster = cluster
        elif cluster != self.cluster:
            raise WrongCluster(
                f"another etcd cluster ({cluster:x}) than the one that answered first ({self.cluster:x})"
            )

    def check_history(self, revision: int, attempt: Attempt) -> None:
        """Raise `WrongCluster` if the revision of a linearizable answer is lower than the one known before the request.

        The revision of one cluster never decreases. Two clusters that were set up independently may have the same id:
        with etcd's default settings they do.
        """
        if revision < attempt.floor:
            raise WrongCluster(
                f"another etcd cluster, or one that was restored from a backup: its revision is {revision}, and it was "
                f"{attempt.floor} before"
            )
        self._revision = max(self._revision, revision)

    def note_term(self, term: int) -> None:
        """Note the raft term of an answer about a lease. A member that lags behind may still have an older one."""
        self.term = max(self.term, term)

    @property
    def knows_members(self) -> bool:
        return bool(self._members)

    def check_members(self, members: Iterable[str]) -> None:
        """Raise `WrongCluster` if none of these members was one before. Members are replaced one at a time."""
        found = frozenset(members)
        if self._members and found and not found & self._members:
            raise WrongCluster(
                f"another etcd cluster: its members are {', '.join(sorted(found))}, and they were "
                f"{', '.join(sorted(self._members))} before"
            )
        self._members = found or self._members

    def has_answered(self, address: Address) -> bool:
        """True if an etcd has answered at this address before."""
        return address.url in self._known

    def attempts(self, patience: Patience) -> Iterator[Attempt]:
        """Yield attempts, round after round with growing pauses, until the patience ends.

        Each endpoint gets a share of the time, so that one that hangs does not starve the others. At the end raises
        `EtcdUnavailable` with every endpoint's last failure (`AnotherCluster` if that is the failure of all), or
        `Cancelled`.
        """
        started = now()
        failures: dict[str, str] = {}
        astray: set[str] = set()
        pauses = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            if self._discovery is not None and self._undiscovered:
                patience.check()
                self._discover(self._discovery, patience.within(self._share(patience, 2)), failures)
            turn = self._addresses[self._first :] + self._addresses[: self._first]
            self._await_one(turn, patience, failures)
            in_vain = bool(turn)
            for position, address in enumerate(turn):
                patience.check()
                if patience.over():
                    # Send nothing more: there is no time left to wait for its answer.
                    raise self._unavailable(failures, astray, now() - started)
                rest = self._rests.get(address.url)
                if rest is not None and now() < rest.until:
                    in_vain = False
                    continue
                share = patience.within(self._share(patience, len(turn) - position))
                attempt = Attempt(address, share, self._revision)
                try:
                    yield attempt
                finally:  # even if the caller stops the iteration because it must not send again
                    if attempt.failure:
                        self._last_failure = f"{address.url} ({attempt.failure})", now()
                in_vain = in_vain and attempt.in_vain
                if attempt.shut_for is not None:
                    self._rests[address.url] = _Rest(attempt, rest)
                if _note(failures, address.url, attempt.failure or TIMED_OUT):
                    (astray.add if attempt.astray else astray.discard)(address.url)
            if in_vain:
                raise self._unavailable(failures, astray, now() - started)
            self._undiscovered = True  # the members may have moved
            patience.pause(pauses.next())
            if not turn and patience.over():
                raise self._unavailable(failures, astray, now() - started)

    def _await_one(self, turn: Sequence[Address], patience: Patience, failures: dict[str, str]) -> None:
        """If all endpoints have turned clients away, wait until the first of them may be asked again."""
        rests = [self._rests[address.url] for address in turn if address.url in self._rests]
        if rests and len(rests) == len(turn):
            for address, rest in zip(turn, rests):
                _note(failures, address.url, rest.why)
            patience.until(min(rest.until for rest in rests)).wait()

    def _discover(self, discovery: Discovery, patience: Patience, failures: dict[str, str]) -> None:
        try:
            found = discovery(patience)
        except ConnectFailed as failure:
            _note(failures, str(discovery), str(failure))
            return
        failures.pop(str(discovery), None)
        before = self.current
        self._addresses = self._given + [address for address in found if address not in self._given]
        self._first = self._addresses.index(before) if before in self._addresses else 0
        self._undiscovered = False

    def _share(self, patience: Patience, untried: int) -> float:
        left = patience.left()
        if left == FOREVER:
            left = LONGEST_ATTEMPT * 2
        return min(max(left / untried, SHORTEST_ATTEMPT), LONGEST_ATTEMPT)

    def _unavailable(self, failures: dict[str, str], astray: set[str], seconds: float) -> EtcdUnavailable:
        if not failures:
            asked = ", ".join(a.url for a in self._addresses) or str(self._discovery)
            failure, when = self._last_failure
            seen = f"; the last failure was {failure}" if now() - when < RECENT and failure else ""
            return EtcdUnavailable(f"no time was left to ask etcd ({asked}){seen}")
        tried = ", ".join(f"{url} ({reason})" for url, reason in failures.items())
        all_astray = bool(astray) and astray.issuperset(address.url for address in self._addresses)
        kind = AnotherCluster if all_astray else EtcdUnavailable
        return kind(f"no etcd answered within {seconds:.1f}s: {tried}", hints=self._hints)


def _note(failures: dict[str, str], what: str, failure: str) -> bool:
    """Record a failure. False if an earlier one is kept: a last try may only have had too little time."""
    if failure.startswith(TIMED_OUT) and what in failures:
        return False
    failures[what] = failure
    return True
