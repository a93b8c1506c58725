"""Channels: the gRPC channels to the endpoints of one cluster, one per address, shared by all threads."""

from __future__ import annotations

import os
import threading

from distlock_core.etcd.address import Address
from distlock_core.etcd.endpoints import Endpoints, WrongCluster
from distlock_core.etcd.grpc.channel import Channel
from distlock_core.etcd.grpc.connect import open_channel
from distlock_core.etcd.happy_eyeballs import ConnectFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.auth.tls import Tls


class Channels:
    """The shared channels of one driver. `most` is the size limit of an answer, in bytes."""

    def __init__(self, rpc: Any, endpoints: Endpoints, access: Access | None, most: int) -> None:
        self._rpc = rpc
        self._endpoints = endpoints
        self._access = access
        self._most = most
        self._tls: Tls | None = None
        self._lock = threading.Lock()
        self._channels: dict[Address, Channel] = {}
        self._inherited: dict[Address, Channel] = {}
        self._pid = os.getpid()

    def connect(self, address: Address, patience: Patience) -> Channel:
        """Open a separate channel to this address for the caller. Raises `ConnectFailed`."""
        if address.tls and self._tls is None:
            from distlock_core.etcd.auth.tls import Tls

            self._tls = Tls(self._access)
        tls = self._tls if address.tls else None
        channel, cluster = open_channel(self._rpc, address, tls, patience, self._most)
        channel.has_told_cluster = cluster is not None
        try:
            self._endpoints.answered(address, cluster)
        except WrongCluster as wrong:
            channel.give_up()
            raise ConnectFailed(str(wrong)) from wrong  # the request has not been sent
        return channel

    def get(self, address: Address, patience: Patience) -> Channel:
        """Return the shared channel to this address, opened if there is none. Raises `ConnectFailed`."""
        with self._lock:
            if self._pid != os.getpid():
                # In a forked child: the channels and their threads belong to the parent. Keep a reference: their
                # deallocation would wait for those threads.
                self._inherited, self._channels, self._pid = self._channels, {}, os.getpid()
            channel = self._channels.get(address)
        if channel is not None:
            return channel
        made = self.connect(address, patience)
        with self._lock:
            channel = self._channels.setdefault(address, made)
        if channel is not made:
            made.give_up()  # another thread was faster
        return channel

    def prefer(self, channel: Channel) -> None:
        """Share this channel from now on: the previous one may hang."""
        with self._lock:
            before = self._channels.get(channel.address)
            self._channels[channel.address] = channel
        if before is not None:
            before.give_up()

    def give_up(self, channel: Channel) -> None:
        """Close a channel, and stop sharing it."""
        with self._lock:
            if self._channels.get(channel.address) is channel:
                del self._channels[channel.address]
        channel.give_up()

    def __iter__(self) -> Iterator[Channel]:
        with self._lock:
            return iter(list(self._channels.values()))

    def close(self) -> None:
        with self._lock:
            channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.give_up()
