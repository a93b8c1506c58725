"""Address: host, port and scheme of one endpoint of etcd, parsed from its URL."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.errors import ConfigError

DEFAULT_PORT = 2379


class Address(Value):
    """Host and port of an endpoint. `url` is its name in messages."""

    url: str
    host: str
    port: int
    tls: bool = False


def parse_endpoint(text: str, default_scheme: str = "http") -> Address:
    """Parse `http://host:port`; scheme, port and a trailing slash are optional. Raises `ConfigError`."""
    if "@" in text:
        # The text before the `@` may be a password, so it is not repeated.
        raise ConfigError(
            "an endpoint's URL must not contain a user or password: use the setting user, and DISTLOCK_PASSWORD or "
            "password_file"
        )
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = default_scheme, text.strip()
    scheme, rest = scheme.lower(), rest.rstrip("/")
    if ";" in text or any(character.isspace() for character in rest):
        found = "';'" if ";" in text else "a blank"
        raise ConfigError(f"endpoint {text!r}: {found} in it; several endpoints are separated by commas")
    if scheme not in ("http", "https"):
        raise ConfigError(f"endpoint {text!r}: unknown scheme {scheme!r}; write it like http://10.0.0.1:2379")
    host, slash, path = rest.partition("/")
    if slash and host:
        raise ConfigError(f"endpoint {text!r}: it has a path (/{path}); etcd is at http://HOST:PORT alone")
    host, port = _split_port(rest, text)
    bad = [character for character in host if character in "/?#@[]\\" or character.isspace() or ord(character) < 33]
    if not host or bad:
        raise ConfigError(f"endpoint {text!r}: not a URL with a host; write it like http://10.0.0.1:2379")
    try:
        host.encode("idna" if not host.isascii() else "ascii")
    except UnicodeError:
        raise ConfigError(f"endpoint {text!r}: not a host name; write it like http://10.0.0.1:2379") from None
    shown = f"[{host}]" if ":" in host else host
    return Address(f"{scheme}://{shown}:{port}", host, port, scheme == "https")


def _split_port(rest: str, text: str) -> tuple[str, int]:
    if rest.startswith("["):
        host, closed, tail = rest[1:].partition("]")
        host = host.replace("%25", "%", 1)  # a zone id, as written in a URL (RFC 6874)
        if not closed or (tail and not tail.startswith(":")):
            raise ConfigError(f"endpoint {text!r}: not an IPv6 address; write it like http://[::1]:2379")
        port = tail[1:]
        has_port = bool(tail)
    else:
        if rest.count(":") > 1:
            raise ConfigError(f"endpoint {text!r}: an IPv6 address needs brackets; write it like http://[::1]:2379")
        host, colon, port = rest.partition(":")
        has_port = bool(colon)
    if not has_port:
        return host, DEFAULT_PORT
    if not (port.isascii() and port.isdigit()) or not 1 <= int(port[:6]) <= 65535:
        raise ConfigError(f"endpoint {text!r}: the port must be a number from 1 to 65535")
    return host, int(port)
