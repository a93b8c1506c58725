"""ClusterCheck: which cluster a gRPC channel leads to. A load balancer may have another one behind it."""

from __future__ import annotations

from distlock_core.etcd.endpoints import Attempt, Endpoints, WrongCluster
from distlock_core.etcd.grpc import messages
from distlock_core.etcd.grpc.channels import Channels
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.messages import shown_member
from distlock_core.etcd.http.reply import ConnectionLost
from distlock_core.etcd.refused import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.grpc.channel import Channel, Metadata

LEARNING = 1.0  # seconds that a request for the members may take


class ClusterCheck:
    """Checks channels by the cluster's id, revision and members."""

    def __init__(self, rpc: Any, endpoints: Endpoints, channels: Channels) -> None:
        self._rpc = rpc
        self._endpoints = endpoints
        self._channels = channels

    def check(self, channel: Channel, attempt: Attempt, request: Any, metadata: Metadata) -> None:
        """Check where a new channel leads before the write `request` is sent: by a linearizable read and the members.

        Raises `ConnectFailed`: nothing was written.
        """
        key = next((one.key for one in request.compare), b"") or messages.first_key(request)
        probe = self._rpc.RangeRequest(key=key, keys_only=True)
        try:
            silent = not channel.has_told_cluster and self._endpoints.cluster is not None
            if (attempt.floor or silent) and key:
                answer = channel.call(lambda raw: self._rpc.KVStub(raw).Range, probe, metadata, attempt.patience)
                self._endpoints.answered(attempt.address, answer.header.cluster_id)
                self._endpoints.check_history(answer.header.revision, attempt)
            if self._endpoints.knows_members:
                self._check_members(channel, metadata, attempt.patience)
        except ConnectionLost as lost:
            raise ConnectFailed(str(lost)) from lost  # the write has not been sent
        except Refused as refusal:
            if refusal.passing:
                raise ConnectFailed(refusal.message) from refusal
            # This user may not read it, or the token has expired: the write will show it.

    def learn_members(self, attempt: Attempt, metadata: Metadata) -> None:
        """Record the cluster's members over the channel in use: a later connection may lead to another cluster."""
        patience = attempt.patience.within(LEARNING)
        try:
            self._check_members(self._channels.get(attempt.address, patience), metadata, patience)
        except WrongCluster:
            raise
        except (ConnectFailed, ConnectionLost):
            pass  # the next watch tries again

    def _check_members(self, channel: Channel, metadata: Metadata, patience: Patience) -> None:
        """Check the cluster's members, if this user may ask for them."""
        request = self._rpc.MemberListRequest()
        try:
            answer = channel.call(lambda raw: self._rpc.ClusterStub(raw).MemberList, request, metadata, patience)
        except Refused:
            return
        self._endpoints.check_members(
            shown_member(member.ID, member.name, member.clientURLs) for member in answer.members
        )
