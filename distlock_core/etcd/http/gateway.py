"""The driver for etcd's JSON gateway, which needs only the standard library.

See `client.Etcd` for its interface, `messages` for the wire format, and `sender` for connections and endpoints.
"""

from __future__ import annotations

from distlock_core.base import plain_json
from distlock_core.base.deadline import Patience
from distlock_core.errors import AccessDenied, DistlockError
from distlock_core.etcd.endpoints import Attempt, Endpoints
from distlock_core.etcd.failover import ask_in_turn
from distlock_core.etcd.http.messages import (
    b64,
    compare_json,
    op_json,
    range_json,
    read_outcome,
    read_streamed_ttl,
    read_token,
    read_ttl,
    reader_of_range,
)
from distlock_core.etcd.http.pool import Pool
from distlock_core.etcd.http.reply import MAX_ANSWER, MIB
from distlock_core.etcd.http.sender import Sender
from distlock_core.etcd.refused import FAILED_PRECONDITION, NO_SPACE, NOT_FOUND, Refused
from distlock_core.etcd.values import Compare, Get, LeaseGone, Outcome, Range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.auth.login import Login
    from distlock_core.etcd.client import Watch
    from distlock_core.etcd.facts import Site
    from distlock_core.etcd.http.polling import Opener
    from distlock_core.etcd.http.watch import GatewayWatch
    from distlock_core.etcd.values import Op

    Answer = TypeVar("Answer")


class Gateway:
    """One etcd cluster over its JSON gateway. Implements `Etcd`. Thread-safe."""

    def __init__(self, endpoints: Endpoints, access: Access | None = None, max_answer: int = MAX_ANSWER) -> None:
        """`max_answer` (MiB) is the size limit of an answer."""
        self._endpoints = endpoints
        self._access = access
        self._login: Login | None = None
        if access is not None and access.user:
            from distlock_core.etcd.auth.login import Login

            self._login = Login(access, self._authenticate)
        self.sender = Sender(endpoints, Pool(access), max_answer * MIB)
        self._opener: Opener | None = None

    @property
    def endpoint(self) -> str:
        return self._endpoints.current.url

    @property
    def term(self) -> int:
        return self._endpoints.term

    def read(self, gets: Sequence[Get], patience: Patience) -> Outcome:
        try:
            return self._transact([], gets, [], patience)
        except AccessDenied as denied:
            raise self._denied(denied, [], gets, patience) from denied.__cause__
        except DistlockError as error:
            if isinstance(error.__cause__, Refused) and NO_SPACE in error.__cause__.message:
                return self._read_one_by_one(gets, patience)
            raise

    def _read_one_by_one(self, gets: Sequence[Get], patience: Patience) -> Outcome:
        """Read one range after another: 3.5 with a full database refuses even read-only transactions."""
        found: list[Range | int | None] = []
        revision = 0
        for get in gets:
            message = op_json(get)["request_range"]
            if revision:
                message["revision"] = str(revision)
            seen, one = self._call("/v3/kv/range", message, reader_of_range(get), patience)
            revision = revision or seen
            found.append(one)
        return Outcome(True, revision, tuple(found))

    def txn(
        self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op], patience: Patience
    ) -> Outcome:
        try:
            return self._transact(compares, then, otherwise, patience, once=True)
        except AccessDenied as denied:
            raise self._denied(denied, compares, [*then, *otherwise], patience) from denied.__cause__
        except DistlockError as error:
            if isinstance(error.__cause__, Refused) and error.__cause__.code == NOT_FOUND:
                raise LeaseGone from error
            raise

    def _transact(
        self,
        compares: Sequence[Compare],
        then: Sequence[Op],
        otherwise: Sequence[Op],
        patience: Patience,
        *,
        once: bool = False,
    ) -> Outcome:
        message = {"success": [op_json(op) for op in then]}
        if compares or otherwise:
            message["compare"] = [compare_json(compare) for compare in compares]
            message["failure"] = [op_json(op) for op in otherwise]

        def parse(answer: dict[str, Any]) -> Outcome:
            return read_outcome(answer, compares, then, otherwise)

        probe = next((one.key for one in (*compares, *then)), b"")
        return self._call("/v3/kv/txn", message, parse, patience, once=once, probe=probe)

    def grant(self, lease: int, ttl: int, patience: Patience) -> int:
        # The id is unique, so sending it again after a lost reply is safe: etcd answers that it exists.
        message = {"ID": str(lease), "TTL": str(ttl)}
        granted = self._call("/v3/lease/grant", message, read_ttl, patience, benign=FAILED_PRECONDITION)
        return granted or self.keep_alive(lease, patience)

    def keep_alive(self, lease: int, patience: Patience, *, fresh: bool = False) -> int:
        message = {"ID": str(lease)}
        return self._call("/v3/lease/keepalive", message, read_streamed_ttl, patience, benign=NOT_FOUND, fresh=fresh)

    def time_to_live(self, lease: int, patience: Patience) -> int:
        return max(0, self._call("/v3/lease/timetolive", {"ID": str(lease)}, read_ttl, patience, benign=NOT_FOUND))

    def revoke(self, lease: int, patience: Patience) -> None:
        self._call("/v3/lease/revoke", {"ID": str(lease)}, read_ttl, patience, benign=NOT_FOUND)

    def watch(
        self, ranges: Sequence[tuple[bytes, bytes | None]], revision: int, patience: Patience, *, polls: bool = True
    ) -> Watch:
        # Several create requests in one body: the gateway reads one after another, so one stream serves all.
        requests = [
            {"create_request": {"key": b64(key), "start_revision": str(revision), **range_json(end)}}
            for key, end in ranges
        ]
        body = "\n".join(plain_json.dumps(request) for request in requests).encode()

        def open_watch(attempt: Attempt, token: str) -> GatewayWatch:
            suspect = None if self._login is None else self._login.suspect
            return self.sender.open_watch(attempt, body, token, 1 if revision else len(ranges), suspect)

        if not polls:
            watch = ask_in_turn(self._endpoints, lambda attempt: self._as_user(attempt, open_watch), patience)
            assert watch is not None
            return watch
        if self._opener is None:
            from distlock_core.etcd.http.polling import Opener

            self._opener = Opener(self._endpoints)
        return self._opener.open(self, ranges, revision, patience, self._as_user, open_watch)

    @property
    def site(self) -> Site:
        from distlock_core.etcd.facts import Site

        return Site(self._endpoints, self._access, "http")

    def load_all(self) -> None:
        from distlock_core.etcd.http import cluster_check, polling, watch  # noqa: F401

    def close(self) -> None:
        self.sender.close()

    def _call(
        self,
        path: str,
        message: dict[str, Any],
        parse: Callable[[dict[str, Any]], Answer],
        patience: Patience,
        *,
        once: bool = False,
        benign: int = -1,
        fresh: bool = False,
        probe: bytes = b"",
    ) -> Answer:
        """Send a request to one endpoint after another; see `ask_in_turn`. A benign refusal is an empty answer."""
        body = plain_json.dumps(message).encode()

        def ask(attempt: Attempt, token: str) -> Answer:
            return parse(self.sender.send(attempt, path, body, token, probe=probe if once else None, fresh=fresh))

        answer = ask_in_turn(
            self._endpoints, lambda attempt: self._as_user(attempt, ask), patience, once=once, benign=benign
        )
        return parse({}) if answer is None else answer

    def _as_user(self, attempt: Attempt, ask: Callable[[Attempt, str], Answer]) -> Answer:
        return ask(attempt, "") if self._login is None else self._login.ask(attempt, ask)

    def _authenticate(self, attempt: Attempt, user: str, password: str) -> str:
        body = plain_json.dumps({"name": user, "password": password}).encode()
        return read_token(self.sender.send(attempt, "/v3/auth/authenticate", body, ""))

    def _denied(
        self, denied: AccessDenied, compares: Sequence[Compare], ops: Sequence[Op], patience: Patience
    ) -> AccessDenied:
        """The error that names the user, the missing right and the key."""
        from distlock_core.etcd.auth import rights

        patience = patience.within(rights.TRYING)

        def attempt(then: Sequence[Op], otherwise: Sequence[Op]) -> Outcome:
            return self._transact([], then, otherwise, patience)

        return rights.name_missing(denied, self._access, compares, ops, attempt)
