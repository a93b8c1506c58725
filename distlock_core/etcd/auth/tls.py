"""Tls: the TLS context for connections to etcd, made from PEM files, and made again when they change.

Loaded for https endpoints only. A server's certificate is always verified; nothing switches that off.
"""

from __future__ import annotations

import os
import ssl

from distlock_core.errors import ConfigError
from distlock_core.etcd.address import Address
from distlock_core.etcd.auth.access import Access

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST = 16 * 2**20  # bytes; a larger file is no PEM file


class Tls:
    """TLS state shared by all connections to one cluster."""

    def __init__(self, access: Access | None) -> None:
        self.access = access or Access()
        self._context: ssl.SSLContext | None = None
        self._stamps: tuple[tuple[int, int] | None, ...] = ()
        self.checked: set[Address] = set()  # for gRPC: whose certificate was verified with this context
        self.for_grpc: tuple[ssl.SSLContext, Any] | None = None  # gRPC's credentials from the files of this context

    def context(self) -> ssl.SSLContext:
        """Return the context, made again when a file has changed: certificates are renewed while a lock is held.

        Raises `ConfigError`, but only until it has succeeded once, since a file may be read while it is half written.
        """
        stamps = tuple(_stamp(path) for path in (self.access.cacert, self.access.cert, self.access.key) if path)
        if self._context is None or stamps != self._stamps:
            try:
                self._context = make_context(self.access)
                self._stamps = stamps
                self.checked = set()
            except ConfigError:
                if self._context is None:
                    raise
        return self._context

    def expected_name(self, address: Address) -> str:
        return self.access.server_name or address.host


def make_context(access: Access) -> ssl.SSLContext:
    """Return a context that verifies the server. Raises `ConfigError` for an unusable file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Only the subjectAltName of a certificate counts, as in Go: the common name is ignored.
    context.hostname_checks_common_name = False
    if access.cacert:
        _pem(access.cacert, "cacert", "CERTIFICATE")
        # As in Go: the trusted file may have an intermediate CA, or the server's certificate itself.
        context.verify_flags |= getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", ssl.VerifyFlags(0))
        try:
            context.load_verify_locations(cafile=access.cacert)
        except ssl.SSLError as error:
            raise ConfigError(f"cacert {access.cacert}: {_damaged(error)}") from None
    else:
        context.load_default_certs()
    if access.cert:
        _load_own(context, access.cert, access.key)
    return context


def _load_own(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    _pem(cert, "cert", "CERTIFICATE")
    where = f"key {key}" if key else f"cert {cert} (no key is set, so it is looked for there)"
    if b"ENCRYPTED" in _pem(key or cert, "key" if key else "cert", "PRIVATE KEY"):
        raise ConfigError(f"{where}: it is encrypted, and nobody is asked for a passphrase: use one without")
    try:
        context.load_cert_chain(cert, key, password="")  # otherwise OpenSSL would prompt for it
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error.reason) or "KEY_TYPE_MISMATCH" in str(error.reason):
            raise ConfigError(f"key {key or cert} does not belong to the certificate {cert}") from None
        raise ConfigError(f"cert {cert}, {where}: {_damaged(error)}") from None


def _pem(path: str, setting: str, kind: str) -> bytes:
    """The content of a PEM file that has a block of this kind."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{setting} {path}: cannot be read: {reason}") from None
    if len(content) > LARGEST:
        raise ConfigError(f"{setting} {path}: it is larger than {LARGEST // 2**20} MiB, so it is no PEM file")
    if not any(line.startswith(b"-----BEGIN ") and kind.encode() in line for line in content.splitlines()):
        what = "private key" if kind == "PRIVATE KEY" else "certificate"
        hint = "; set key, if it is in another file" if setting == "cert" and kind == "PRIVATE KEY" else ""
        raise ConfigError(f"{setting} {path}: no {what} in PEM form in it{hint}")
    return content


def _damaged(error: ssl.SSLError) -> str:
    return f"not valid PEM, or damaged ({(error.reason or 'unreadable').replace('_', ' ').lower()})"


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
