"""Probe of one endpoint over gRPC: its status, and whether it serves reads. For members without a gateway."""

from __future__ import annotations

from distlock_core.base.deadline import now
from distlock_core.etcd.endpoints import Endpoints
from distlock_core.etcd.facts import GRPC, EndpointFacts, ListedMember, MemberStatus
from distlock_core.etcd.grpc.channels import Channels
from distlock_core.etcd.grpc.etcd3_package import load
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.probe import wants_user
from distlock_core.etcd.http.reply import MIB, ConnectionLost
from distlock_core.etcd.refused import Refused, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.address import Address
    from distlock_core.etcd.facts import Site
    from distlock_core.etcd.grpc.channel import Channel

MOST = 8 * MIB
WITH_LEADER = (("hasleader", "true"),)


class GrpcProbe:
    """Looks at endpoints over gRPC, as `HttpProbe` does. Raises `ConfigError` if `etcd3` is missing."""

    def __init__(self, site: Site) -> None:
        self._rpc = load()
        self._access = site.access
        self._channels: dict[Address, Channels] = {}

    def look(self, found: EndpointFacts, address: Address, key: bytes, patience: Patience) -> EndpointFacts:
        """The same facts with what gRPC tells. What the endpoint has answered over HTTP stays."""
        begun = now()
        try:
            channel = self._channel(address, patience)
            status = self._status(channel, patience)
            found = found._replace(status=status, via=GRPC, seconds=now() - begun, failure="", is_strange=False)
        except (ConnectFailed, ConnectionLost) as failure:
            return found._replace(status=None, via="", failure=str(failure))
        except Refused as refusal:
            why = f"etcd refuses: {refusal.message}"
            wants = wants_user(refusal)
            return found._replace(status=None, via="", failure=why, is_strange=True, wants_user=wants)
        reads, needs_user = "", False
        try:
            request = self._rpc.RangeRequest(key=key, keys_only=True, limit=1)
            channel.call(lambda raw: self._rpc.KVStub(raw).Range, request, WITH_LEADER, patience)
        except Refused as refusal:
            needs_user = wants_user(refusal)
            reads = "" if needs_user else refusal.message
        except (ConnectFailed, ConnectionLost) as failure:
            reads = str(failure)
        return found._replace(reads=reads, wants_user=needs_user, members=self._members(channel, patience))

    def status(self, address: Address, patience: Patience) -> MemberStatus:
        """A member's status. Raises as a call."""
        return self._status(self._channel(address, patience), patience)

    def close(self) -> None:
        for channels in self._channels.values():
            channels.close()

    def _channel(self, address: Address, patience: Patience) -> Channel:
        # Each by itself: that two endpoints lead to two clusters is a finding, and not a failure of the second.
        channels = self._channels.setdefault(address, Channels(self._rpc, Endpoints([address]), self._access, MOST))
        return channels.get(address, patience)

    def _status(self, channel: Channel, patience: Patience) -> MemberStatus:
        stub = self._rpc.MaintenanceStub
        answer = channel.call(lambda raw: stub(raw).Status, self._rpc.StatusRequest(), (), patience)
        return MemberStatus(
            quoted(answer.version),
            answer.header.cluster_id,
            answer.header.member_id,
            answer.leader,
            answer.raftTerm,
            answer.raftIndex,
            _newer(answer, "raftAppliedIndex"),
            answer.dbSize,
            _newer(answer, "dbSizeInUse"),
            0,
            bool(_newer(answer, "isLearner")),
            tuple(map(quoted, getattr(answer, "errors", ()))),
        )

    def _members(self, channel: Channel, patience: Patience) -> tuple[ListedMember, ...]:
        request = self._rpc.MemberListRequest()
        try:
            answer = channel.call(lambda raw: self._rpc.ClusterStub(raw).MemberList, request, (), patience)
        except (ConnectFailed, ConnectionLost, Refused):
            return ()
        return tuple(
            ListedMember(one.ID, quoted(one.name), tuple(map(quoted, one.clientURLs)), bool(_newer(one, "isLearner")))
            for one in answer.members
        )


def _newer(answer: Any, field: str) -> int:
    """A field that the messages of `etcd3` may not have yet; 0 then."""
    return int(getattr(answer, field, 0))
