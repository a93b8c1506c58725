"""Probe of one endpoint over HTTP/1.1: its status, its clock, its figures, and whether it serves reads.

It asks without a user wherever etcd allows it, and as a client that no leader has to serve: a member without a quorum
then still tells about itself. Nothing is written.
"""

from __future__ import annotations

import time

from distlock_core.base import plain_json
from distlock_core.base.deadline import now
from distlock_core.etcd.facts import GATEWAY, Counters, EndpointFacts, ListedMember, MemberStatus
from distlock_core.etcd.failover import SPEAKS_TLS
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.messages import (
    NoGateway,
    b64,
    read_answer,
    read_listed_members,
    read_member_status,
    read_token,
)
from distlock_core.etcd.http.reply import MIB, ConnectionLost
from distlock_core.etcd.refused import MALFORMED, PERMISSION_DENIED, UNAUTHENTICATED, Refused, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.address import Address
    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.http.http1 import Connection
    from distlock_core.etcd.http.pool import Pool

MOST = 8 * MIB  # bytes of an answer: metrics are the largest
STRANGE = "it answers, but not as etcd does"
WITH_LEADER = {"Grpc-Metadata-Hasleader": "true"}
NO_USER, WRONG_PASSWORD = "user name is empty", "authentication failed"
LEADER_CHANGES = "etcd_server_leader_changes_seen_total"
STARTED = "process_start_time_seconds"
QUOTA = "etcd_server_quota_backend_bytes"
ELECTION = "election-timeout"


class HttpProbe:
    """One look at one endpoint. Each question gets at most what is left of the patience."""

    def __init__(self, pool: Pool, address: Address, access: Access | None, patience: Patience) -> None:
        self._pool = pool
        self._address = address
        self._access = access
        self._patience = patience
        self._token = ""
        self._lead: tuple[float, float] | None = None

    def look(self, key: bytes) -> EndpointFacts:
        """Ask it all. `key` is one that a client of the realm reads."""
        found = EndpointFacts(self._address.url)
        begun = now()
        try:
            status = self.status()
        except NoGateway as failure:
            found = found._replace(failure=str(failure), no_gateway=str(failure), is_strange=True)
        except (ConnectFailed, ConnectionLost) as failure:
            strange = str(failure).startswith(STRANGE) or self._speaks_tls()
            why = SPEAKS_TLS if strange and not str(failure).startswith(STRANGE) else str(failure)
            return found._replace(failure=why, is_strange=strange, lead=self._lead)
        except Refused as refusal:
            why = f"etcd refuses: {refusal.message}"
            found = found._replace(failure=why, is_strange=True, wants_user=wants_user(refusal))
        except MALFORMED:
            return found._replace(failure=STRANGE, is_strange=True, lead=self._lead)
        else:
            found = found._replace(status=status, via=GATEWAY, seconds=now() - begun, members=self._listed())
        counters, election = self._counters(), self._election_ms()
        started = None if counters is None else counters.started
        # By its own clock, which may differ from this machine's.
        up = None if started is None or self._lead is None else time.time() + self._lead[0] - started
        found = found._replace(counters=counters, election_ms=election, up_seconds=up, lead=self._lead)
        # At last: without a quorum it may take all the time that is left.
        return found if found.status is None else self._with_read(found, key)

    def status(self) -> MemberStatus:
        """Its status. Raises as a call, and `NoGateway`, `Refused`, one of `MALFORMED`."""
        return read_member_status(self._ask("/v3/maintenance/status"))

    def _listed(self) -> tuple[ListedMember, ...]:
        try:
            return read_listed_members(self._ask("/v3/cluster/member/list"))
        except (ConnectFailed, ConnectionLost, Refused, *MALFORMED):
            return ()  # the rest does not depend on it

    def _with_read(self, found: EndpointFacts, key: bytes) -> EndpointFacts:
        reads, needs_user = "", False
        try:
            self._post("/v3/kv/range", {"key": b64(key), "keys_only": True, "limit": "1"}, WITH_LEADER)
        except Refused as refusal:
            # etcd asks for the user after it has found its leader.
            needs_user = wants_user(refusal)
            reads = "" if needs_user else refusal.message
        except (ConnectFailed, ConnectionLost) as failure:
            reads = str(failure)
        except MALFORMED:
            reads = STRANGE
        return found._replace(reads=reads, wants_user=needs_user)

    def _counters(self) -> Counters | None:
        """The figures in its metrics; None where it has none here (`--listen-metrics-urls`, a proxy)."""
        try:
            text = self._get("/metrics").decode(errors="replace")
        except (ConnectFailed, ConnectionLost, *MALFORMED):
            return None
        found: dict[str, float] = {}
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name in (LEADER_CHANGES, STARTED, QUOTA):
                try:
                    found[name] = float(value)
                except ValueError:
                    continue
        if not found:
            return None
        return Counters(found.get(LEADER_CHANGES), found.get(STARTED), found.get(QUOTA))

    def _election_ms(self) -> int | None:
        """The election timeout on its command line; None if it does not show that, or a file or variable sets it."""
        try:
            words = plain_json.loads(self._get("/debug/vars"))["cmdline"]
            flags = dict(_flag(words, at) for at in range(len(words)))
        except (ConnectFailed, ConnectionLost, *MALFORMED):
            return None
        digits = flags.get(ELECTION, "")
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None

    def _ask(self, path: str) -> dict[str, Any]:
        """Ask without a user; as the user only where etcd wants one, since a login costs it a commit."""
        try:
            return self._post(path, {}, {"Authorization": self._token} if self._token else None)
        except Refused as refusal:
            if self._token or not wants_user(refusal) or self._access is None or not self._access.user:
                raise
            login = {"name": self._access.user, "password": self._access.secret()}
            self._token = read_token(self._post("/v3/auth/authenticate", login))
        return self._ask(path)

    def _post(self, path: str, message: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        status, body = self._send(path, plain_json.dumps(message).encode(), headers, "POST")
        return read_answer(status, body)

    def _get(self, path: str) -> bytes:
        status, body = self._send(path, b"", None, "GET")
        if status != 200:
            raise ConnectionLost(f"{STRANGE} (HTTP {status})")
        return bytes(body)

    def _send(self, path: str, body: bytes, headers: dict[str, str] | None, method: str) -> tuple[int, bytearray]:
        connection, _ = self._pool.take(self._address, self._patience)
        reply = None
        try:
            sent = time.time()
            reply = connection.open(path, body, self._patience, headers, method)
            self._compare_clocks(reply.headers.get("date"), sent, time.time())
            return reply.status, reply.read_all(self._patience, MOST)
        finally:
            self._finish(connection, reusable=reply is not None and reply.reusable)

    def _finish(self, connection: Connection, *, reusable: bool) -> None:
        if reusable:
            self._pool.give_back(connection)
        elif self._patience.over():
            self._pool.hang_up_later(connection)  # see LATE
        else:
            connection.close()

    def _compare_clocks(self, date: str | None, sent: float, received: float) -> None:
        """Narrow the bounds of its clock's lead: a Date is a whole second, taken between sending and receiving."""
        then = seconds_of(date)
        if then is None or received < sent:
            return  # the clock of this machine was set meanwhile
        low, high = then - received, then + 1 - sent
        if self._lead is not None:
            narrowed = max(low, self._lead[0]), min(high, self._lead[1])
            # Members behind one proxy can have several clocks: then the last one counts.
            low, high = narrowed if narrowed[0] <= narrowed[1] else (low, high)
        self._lead = low, high

    def _speaks_tls(self) -> bool:
        if self._address.tls or self._patience.over():
            return False
        from distlock_core.etcd.auth.secure_connection import is_tls_spoken

        return is_tls_spoken(self._address, self._patience)


def wants_user(refusal: Refused) -> bool:
    """True if etcd refuses a client because it has no user, or not the right one."""
    told = NO_USER in refusal.message or WRONG_PASSWORD in refusal.message
    return told or refusal.code in (PERMISSION_DENIED, UNAUTHENTICATED)


def seconds_of(date: str | None) -> int | None:
    """The Unix time of an HTTP date, None if it is none."""
    import calendar

    try:
        return calendar.timegm(time.strptime(date or "", "%a, %d %b %Y %H:%M:%S GMT"))
    except (ValueError, OverflowError):
        return None


def _flag(words: list[Any], at: int) -> tuple[str, str]:
    """Name and value of the flag at this place of a command line, in Go's syntax."""
    word = str(words[at])
    if not word.startswith("-"):
        return "", ""
    name, equals, value = word.lstrip("-").partition("=")
    return name, quoted(value if equals else words[at + 1] if at + 1 < len(words) else "")
