"""Connecting over gRPC: credentials, the connection, and diagnosis if it fails."""

from __future__ import annotations

import os

from distlock_core.errors import EtcdUnavailable
from distlock_core.etcd.failover import SPEAKS_TLS
from distlock_core.etcd.grpc.channel import Bell, Channel, SignalsHeld, result_of
from distlock_core.etcd.grpc.etcd3_package import check_spare
from distlock_core.etcd.happy_eyeballs import STAGGER, ConnectFailed, targets
from distlock_core.etcd.http.http1 import Connection, ConnectionLost
from distlock_core.etcd.http.messages import NoGateway, read_answer
from distlock_core.etcd.http.reply import MAX_ANSWER, MIB
from distlock_core.etcd.refused import MALFORMED, PERMISSION_DENIED, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.address import Address
    from distlock_core.etcd.auth.tls import Tls
    from distlock_core.etcd.happy_eyeballs import Target

# The share of the connect time with TLS for gRPC: the rest is for the diagnosis of a failure.
FOR_GRPC = 0.75
OPTIONS = (
    # A separate connection per channel, as with HTTP: a failed one affects no other, and none outlives its channel.
    ("grpc.use_local_subchannel_pool", 1),
    # Connect to etcd directly, whatever web proxy the environment names.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),  # the caller decides whether a write may be sent again
)


def open_channel(
    rpc: Any, address: Address, tls: Tls | None, patience: Patience, most: int = MAX_ANSWER * MIB
) -> tuple[Channel, int | None]:
    """Connect to a member, and return the channel and the cluster id when it has answered.

    The member is asked for its status, so that no request of the caller is in doubt if no answer comes. The id is None
    if it tells that to its users only, as newer versions do. `most` is the size limit of an answer, in bytes. Raises
    `ConnectFailed`, `ConfigError`, `Cancelled`.
    """
    _check_descriptors()
    whole = patience
    options = [*OPTIONS, ("grpc.default_authority", address.url.partition("://")[2])]
    options.append(("grpc.max_receive_message_length", most))
    credentials = None
    if tls is not None:
        credentials = _credentials(tls)
        _check_name(address, tls, whole)
        patience = whole.within(whole.left() * FOR_GRPC)
        options.append(("grpc.ssl_target_name_override", tls.expected_name(address)))
        if tls.access.server_name:
            # Also compared with the certificate.
            options[len(OPTIONS)] = ("grpc.default_authority", tls.access.server_name)
    # Resolved by the system, as over HTTP, not by gRPC's own resolver.
    found = _first_to_answer(rpc, address, targets(address, patience), credentials, options, patience)
    if found is None:
        raise ConnectFailed("timed out" if whole.over() else _why(address, tls, whole))
    return found


def _first_to_answer(
    rpc: Any,
    address: Address,
    waiting: list[Target],
    credentials: Any,
    options: Sequence[tuple[str, Any]],
    patience: Patience,
) -> tuple[Channel, int | None] | None:
    """Ask one address after another, in parallel with those that are silent. None if none has answered."""
    bell = Bell()
    racing: list[tuple[Channel, Any]] = []
    try:
        while (waiting or racing) and not patience.over():
            if waiting:
                with SignalsHeld():
                    channel = Channel(address, _open(waiting.pop(0), credentials, options))
                try:
                    ask = channel.begin(_status(rpc), rpc.StatusRequest(), (), patience, bell)
                except BaseException:
                    channel.give_up()
                    raise
                racing.append((channel, ask))
            bell.wait(patience.within(STAGGER) if waiting else patience)
            bell.hush()
            for one in [one for one in racing if one[1].done()]:
                racing.remove(one)
                channel, call = one
                try:
                    cluster = result_of(call).header.cluster_id
                except (ConnectFailed, ConnectionLost):
                    channel.give_up()
                except Refused as refusal:
                    if refusal.wants_login or refusal.code == PERMISSION_DENIED:
                        return channel, None  # an etcd, at any rate
                    channel.give_up()
                    raise ConnectFailed(refusal.message) from refusal
                else:
                    return channel, cluster
                finally:
                    channel.end(call)
        return None
    finally:
        for channel, call in racing:
            channel.give_up()
            channel.end(call)
        bell.close()


def _check_descriptors() -> None:
    """Raise `ConnectFailed` if few descriptors are left: gRPC's core aborts the process if it lacks one."""
    try:
        check_spare()
    except EtcdUnavailable as lacking:
        raise ConnectFailed(lacking.message) from lacking


def _status(rpc: Any) -> Callable[[Any], Any]:
    return lambda raw: rpc.MaintenanceStub(raw).Status


def _open(target: Target, credentials: Any, options: Sequence[tuple[str, Any]]) -> Any:
    import grpc

    host, port = target.where[0].replace("%", "%25"), target.where[1]
    uri = f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
    if credentials is None:
        return grpc.insecure_channel(uri, options)
    return grpc.secure_channel(uri, credentials, options)


def _credentials(tls: Tls) -> Any:
    context = tls.context()  # raises for wrong files at first; later keeps the previous context
    if tls.for_grpc is None or tls.for_grpc[0] is not context:
        tls.for_grpc = context, _new_credentials(tls)
    return tls.for_grpc[1]


def _check_name(address: Address, tls: Tls, patience: Patience) -> None:
    """Verify the server's certificate by our own rules: gRPC would accept a common name."""
    if address not in tls.checked:
        _secure(address, tls, patience).close()
        tls.checked.add(address)


def _new_credentials(tls: Tls) -> Any:
    import grpc

    access = tls.access
    cert = _content(access.cert) if access.cert else None
    key = _content(access.key) if access.key else cert
    return grpc.ssl_channel_credentials(_content(access.cacert) if access.cacert else _known_to_the_system(), key, cert)


def _known_to_the_system() -> bytes:
    """The CAs that this machine trusts. gRPC would use its bundled ones."""
    import glob
    import ssl

    paths = ssl.get_default_verify_paths()
    files = [paths.cafile] if paths.cafile else glob.glob(os.path.join(glob.escape(paths.capath or ""), "*.[0-9]"))
    return b"\n".join(_content(file) for file in files)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConnectFailed(f"{path} cannot be read: {error.strerror}") from error


def _why(address: Address, tls: Tls | None, patience: Patience) -> str:
    """The reason why connecting failed. gRPC gives none that is reliable, so it is tried once more without gRPC."""
    try:
        connection = Connection(address, patience) if tls is None else _secure(address, tls, patience)
    except ConnectFailed as failure:
        return str(failure)
    try:
        stream = connection.open("/v3/maintenance/status", b"{}", patience)
        read_answer(stream.status, stream.read_all(patience))
    except (ConnectFailed, ConnectionLost) as failure:
        if not isinstance(failure, NoGateway):
            if tls is None:
                from distlock_core.etcd.auth.secure_connection import is_tls_spoken

                if is_tls_spoken(address, patience):
                    return SPEAKS_TLS
            return "timed out" if patience.over() else str(failure)  # there was no time for the diagnosis
    except (Refused, *MALFORMED):
        pass
    finally:
        connection.close()
    if stream.status == 404:
        return "it answers 404 over HTTP, and not over gRPC: no etcd v3"
    return "it answers, but not over gRPC"


def _secure(address: Address, tls: Tls, patience: Patience) -> Connection:
    from distlock_core.etcd.auth.secure_connection import SecureConnection

    return SecureConnection(address, patience, tls)
