"""Files that are written whole or not at all: who reads them sees what was there before, or all that is new."""

from __future__ import annotations

import os


def write_whole(path: str, data: bytes, mode: int) -> None:
    """Replace a file, or make it, with this mode whatever the umask. Raises `OSError`; the old file is then unchanged.

    The data are on the disk before the file has its name. A link of that name is replaced, not followed.
    """
    folder = os.path.dirname(os.path.abspath(path))
    # Hidden, and without the extension of the file: who reads all files of a folder must not take it for one of them.
    temporary = os.path.join(folder, f".distlock-{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync(folder)


def _sync(folder: str) -> None:
    """Write the folder to the disk too, so that the new name outlives a crash. It is no error if that is impossible."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return  # it may be written to, but not read
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # a file system without that
    finally:
        os.close(descriptor)
