"""Listing reads the locks of a realm with their own notes, however many notes of other names there are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from distlock_core.base.deadline import Patience
from distlock_core.etcd.values import Get, KeyValue, Range
from distlock_core.lock import listing
from tests.support.scene import BOUND, Scene, gateway


def fill(scene: Scene, locks: Sequence[str], notes: Sequence[str]) -> None:
    for name in notes:
        scene.put(f"__last/{name}", f'1;ended-{name};{{"how":"released","owner":"o","token":1}}')
    for name in locks:
        scene.put(name)
    scene.put("__freeze")


@pytest.mark.parametrize("locks", [0, 3, 9, 10], ids=lambda locks: f"{locks} locks")
@pytest.mark.parametrize("notes", [0, 4, 5, 17], ids=lambda notes: f"{notes} notes")
def test_each_lock_has_its_own_note(scene: Scene, monkeypatch: pytest.MonkeyPatch, locks: int, notes: int) -> None:
    monkeypatch.setattr(listing, "FEW", 4)
    monkeypatch.setattr(listing, "BATCH", 2)
    # Names on both sides of the notes in etcd's order; the locks are the last of those noted.
    names = [("A", "z")[number % 2] + f"{number:02}" for number in range(20)]
    held = names[20 - locks :]
    noted = names[:notes]
    fill(scene, held, noted)
    states = scene.realm().list()
    assert [state.name for state in states] == sorted(held)
    for state in states:
        assert state.frozen is not None
        assert (state.last.by if state.last else None) == (f"ended-{state.name}" if state.name in noted else None)


def read_by_listing(scene: Scene) -> list[KeyValue]:
    """All that is read of etcd to list the realm."""
    etcd = gateway(*scene.endpoints)
    seen: list[KeyValue] = []

    def read(gets: Sequence[Get]) -> Sequence[Range]:
        ranges = etcd.read(gets, Patience.lasting(BOUND)).ranges()
        seen.extend(kv for found in ranges for kv in found.kvs)
        return ranges

    listing.keys_of_realm(read, scene.prefix, "__internal_lock")
    etcd.close()
    return seen


def test_what_is_read_does_not_grow_with_the_notes_of_other_names(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "FEW", 5)
    read = []
    for count in (20, 60):
        fill(scene, ["web", "zoo"], ["web", *(f"job-{number:02}" for number in range(count))])
        read.append(len(read_by_listing(scene)))
    assert read == [9, 9]  # two locks, the freeze, five notes, and that of web


def test_a_small_realm_is_read_in_one_request(scene: Scene) -> None:
    fill(scene, ["web"], ["web", "other"])
    assert len(read_by_listing(scene)) == 4


def test_a_brief_list_reads_no_note_and_asks_for_no_lease(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(scene, ["a", "web"], ["web", "other"])
    lease = scene.grant()
    scene.put("leased", "1;o;{}", lease)
    realm = scene.realm()
    whole = realm.list()
    assert [state.holders[0].ttl_left is not None for state in whole] == [False, True, False]
    monkeypatch.setattr(type(realm._etcd), "time_to_live", pytest.fail)
    brief = realm.list(brief=True)
    assert [state.last for state in brief] == [None] * 3
    assert [state.frozen for state in brief] == [state.frozen for state in whole]
    assert [[held._replace(ttl_left=None) for held in state.holders] for state in whole] == [
        list(state.holders) for state in brief
    ]
    scene.revoke(lease)
