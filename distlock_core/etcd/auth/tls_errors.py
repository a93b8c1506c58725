"""TLS errors in plain words: what is wrong, and with whose certificate."""

from __future__ import annotations

import _ssl as ssl  # see tls.py

from distlock_core.etcd.happy_eyeballs import reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.auth.access import Access

EXPIRED, NOT_YET_VALID, HOST_MISMATCH, IP_MISMATCH = 10, 9, 62, 64  # OpenSSL's numbers
UNKNOWN_CA = frozenset({2, 18, 19, 20, 21})
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")
NO_VERSION = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE")
# OpenSSL 3.0, for example with Debian's Python 3.11.2, raises the second where others raise the first.
HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
ABOUT_CLIENT_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED", "DECRYPT_ERROR")


def explain(error: OSError, name: str, access: Access) -> str:
    """The cause of a TLS error in plain words. `name` is the server's expected name."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _refused_certificate(error, name, access)
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, HUNG_UP):
        return "closed the connection"
    if not isinstance(error, ssl.SSLError):
        return reason_of(error)
    if any(word in reason for word in NO_TLS):
        return "it does not speak TLS there: an http:// endpoint, or no etcd"
    if any(word in reason for word in NO_VERSION):
        return "it has no version of TLS in common with this machine"
    if any(word in reason for word in ABOUT_CLIENT_CERTIFICATE):
        if access.cert is None:
            return "it wants a client certificate: set cert and key"
        if "EXPIRED" in reason:
            return f"it refuses the client certificate {access.cert}: it has expired"
        if "UNKNOWN_CA" in reason:
            return f"it refuses the client certificate {access.cert}: it does not know the authority that signed it"
        return f"it refuses the client certificate {access.cert}: expired, or not of an authority that it trusts"
    return f"TLS failed: {reason.replace('_', ' ').lower() or error}"


def _refused_certificate(error: ssl.SSLCertVerificationError, name: str, access: Access) -> str:
    code = error.verify_code
    if code == EXPIRED:
        return "its certificate has expired"
    if code == NOT_YET_VALID:
        return "its certificate is not valid yet, or this machine's clock is wrong"
    if code in (HOST_MISMATCH, IP_MISMATCH):
        hint = "" if access.server_name else ": name it as the certificate does, or set tls_server_name"
        return f"its certificate is not one for {name}{hint}"
    if code in UNKNOWN_CA:
        if access.cacert:
            return f"its certificate is not signed by the authority in {access.cacert}"
        return "its certificate is not signed by an authority that this machine knows: set cacert"
    return f"its certificate is refused: {error.verify_message}"
