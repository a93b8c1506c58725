"""Reading of a password file."""

from __future__ import annotations

from distlock_core.errors import ConfigError

LARGEST = 4096  # bytes; a larger file is no password: its name was a mistake


def read_password_file(path: str) -> str:
    """Return the only line of a password file, without its newline. Raises `ConfigError`, which never shows it."""
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
