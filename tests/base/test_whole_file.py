"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from distlock_core.base.whole_file import write_whole

OLD, NEW = b"old\n" * 20_000, b"new!\n" * 30_000


def test_a_reader_sees_all_of_the_old_or_all_of_the_new(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_whole(str(file), OLD, 0o644)
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(file.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        write_whole(str(file), NEW, 0o644)
        write_whole(str(file), OLD, 0o644)
    done.set()
    reader.join()
    assert seen <= {OLD, NEW}
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o640])
def test_it_has_its_mode_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        write_whole(str(tmp_path / "file"), NEW, mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


@pytest.mark.parametrize("call", ["fsync", "fchmod", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(OLD)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(OSError, match="No space left"):
            write_whole(str(file), NEW, 0o644)
    assert file.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_is_replaced_and_what_it_names_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(OLD)
    (tmp_path / "link").symlink_to(other)
    write_whole(str(tmp_path / "link"), NEW, 0o644)
    assert other.read_bytes() == OLD
    assert not (tmp_path / "link").is_symlink()


def test_while_it_is_written_its_name_is_hidden_and_has_no_extension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector reads all `*.prom` of a folder."""
    names: list[str] = []
    sync = os.fsync

    def look_and_sync(descriptor: int) -> None:
        names.extend(os.listdir(tmp_path))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", look_and_sync)
    write_whole(str(tmp_path / "locks.prom"), NEW, 0o644)
    assert names[0].startswith(".")
    assert "." not in names[0][1:]
    assert names[1:] == ["locks.prom"]  # the folder is synced when the file has its name
