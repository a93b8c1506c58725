"""Facts about files of this machine that settings come from, or that settings name."""

from __future__ import annotations

import os
import stat

from distlock_core.doctor.config_files import CONFIG, KEY, PASSWORD, FileFacts
from distlock_core.settings.options import IN_FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from distlock_core.settings.options import Settings

LARGEST = 16 * 2**20  # bytes; a larger file is no certificate


def files_of(settings: Settings, config: str) -> Iterator[FileFacts]:
    """The files of these settings. `config` is the config file that counts, "" for none."""
    if config:
        has_password = settings.origins.get("password", "").startswith(IN_FILE)
        yield look_at(CONFIG, config, has_password=has_password)
    if settings.password_file:
        yield look_at(PASSWORD, settings.password_file, has_password=True)
    if settings.key:
        yield look_at(KEY, settings.key)


def look_at(check: str, path: str, *, has_password: bool = False) -> FileFacts:
    """The facts about one file, and whether this user can read it."""
    unreadable = ""
    try:
        with open(path, "rb") as file:
            file.read(1)
    except (OSError, ValueError) as error:
        unreadable = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return FileFacts(check, path, None, "", "", unreadable or "does not exist")
    mode = stat.S_IMODE(found.st_mode)
    return FileFacts(check, path, mode, _user(found.st_uid), _group(found.st_gid), unreadable, has_password)


def content_of(path: str) -> tuple[str | None, str]:
    """The text of a file, or None and why it cannot be read."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        return None, f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"
    if len(content) > LARGEST:
        return None, "it is too large"
    return content.decode("ascii", "replace"), ""


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return str(uid)


def _group(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OSError):
        return str(gid)
