"""A password in a file of its own."""

from __future__ import annotations

from distlock_core.errors import ConfigError

LARGEST = 4096  # bytes; beyond this it is no password, but a slip in the name


def read_password_file(path: str) -> str:
    """Return the password in a file: its one line, without the newline. Raises `ConfigError`, which never shows it."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"password file {path}: cannot be read: {reason}") from None
    line, _, rest = content.partition(b"\n")
    if len(content) > LARGEST or rest.strip():
        raise ConfigError(f"password file {path}: expected one line with the password, found more")
    try:
        password = line.rstrip(b"\r").decode()
    except UnicodeDecodeError:
        raise ConfigError(f"password file {path}: not a text in UTF-8") from None
    if not password:
        raise ConfigError(f"password file {path}: it is empty")
    return password
