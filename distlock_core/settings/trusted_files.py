"""Warnings about files that other users can read or change, but should not."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def too_open(config: str, password: str, key: str, trusted: tuple[str, ...]) -> Iterator[str]:
    """Yield a warning for each file that is too open; "" where there is no such file.

    `config`: the config file. `password`: a file with a password. `key`: a private key. `trusted`: certificates.
    """
    for path in dict.fromkeys(filter(None, (config, password, key, *trusted))):
        try:
            found = os.stat(path)
            folder = os.stat(os.path.dirname(os.path.realpath(path)))
        except (OSError, ValueError):
            continue  # reported when the file is read
        if not stat.S_ISREG(found.st_mode):
            continue
        mode = stat.S_IMODE(found.st_mode)
        if path == password and mode & 0o077:
            who = "everybody" if mode & 0o007 else "its group"
            yield f"{path} has a password in it, and {who} may read or change it. To keep it: chmod 600 {path}"
        elif path == key and mode & 0o007:
            yield f"{path} is a private key, and everybody may read or change it. To keep it: chmod 600 {path}"
        elif mode & 0o002:
            yield f"everybody may change {path}, and with it which lock is taken and whether it holds: chmod o-w {path}"
        if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
            where = os.path.dirname(os.path.realpath(path))
            yield f"everybody may replace {path}: chmod o-w {where}"
