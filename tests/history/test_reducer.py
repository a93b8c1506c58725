"""The reducer: events in order of revision become entries, with times that are known or bounded, never invented."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distlock_core.cli import plot_terminal
from distlock_core.cli.history_text import HEADING, row
from distlock_core.cli.timeline import timeline
from distlock_core.etcd.values import Event, KeyValue
from distlock_core.history.entries import Gap, Moment, PastFreeze, PastHold, PastWait, Reach
from distlock_core.history.reducer import Reducer
from distlock_core.lock.past import place_of

PREFIX = "/r/"
NOTE = "__last/"


def record(at: int, by: str, /, **details: Any) -> bytes:
    return f"{at};{by};{json.dumps(details)}".encode()


class Story:
    """Changes to a realm, one revision after another, and the entries that are told."""

    def __init__(self, *, live: bool = False, begin: int = 0) -> None:
        self.entries: list[Any] = []
        self.reducer = Reducer(lambda key: place_of(key, PREFIX, "__internal_lock"), self.entries.append)
        self.reducer.begin(begin, (), (), "first")
        self.reducer.live = live
        self.revision = max(begin, 1)
        self._born: dict[str, int] = {}

    def change(self, *, delete: tuple[str, ...] = (), lease: int = 0, **put: bytes) -> int:
        """Delete these names, and put others, `_` for `/` in the names of keyword arguments."""
        return self.put({name.replace("_", "/", 1): value for name, value in put.items()}, delete=delete, lease=lease)

    def put(self, put: dict[str, bytes], *, delete: tuple[str, ...] = (), lease: int = 0) -> int:
        self.revision += 1
        events = [Event(True, KeyValue(self.key(name), b"", 0, self.revision, 0)) for name in delete]
        for name in delete:
            del self._born[name]
        for name, value in put.items():
            born = self._born.setdefault(name, self.revision)
            events.append(Event(False, KeyValue(self.key(name), value, born, self.revision, lease)))
        self.reducer.change(self.revision, events)
        return self.revision

    def key(self, name: str) -> bytes:
        return (PREFIX + name).encode()

    def kv(self, name: str, value: bytes, born: int, lease: int = 0) -> KeyValue:
        return KeyValue(self.key(name), value, born, born, lease)

    def acquire(
        self, since: int, owner: str, name: str = "db", *, ticket: str = "", lease: int = 0, **more: Any
    ) -> int:
        claim = record(since, owner, run=f"run-{since}", **more)
        return self.put({name: claim}, delete=(f"{name}/queue/50/exclusive/{ticket}",) if ticket else (), lease=lease)

    def queue(self, since: int, owner: str, ticket: str, name: str = "db") -> int:
        return self.put({f"{name}/queue/50/exclusive/{ticket}": record(since, owner, host="h")}, lease=int(ticket))

    def release(self, at: int, token: int, name: str = "db", how: str = "released", by: str = "a", **more: Any) -> int:
        note = record(at, by, how=how, token=token, **more.pop("note", {}))
        return self.put({NOTE + name: note, **more}, delete=(name,))

    def told(self) -> list[Any]:
        """The entries so far, without the reach, which comes first."""
        if self.entries and isinstance(self.entries[0], Reach):
            del self.entries[0]
        found, self.entries[:] = list(self.entries), []
        return found


def exact(at: int) -> Moment:
    return Moment(at, at)


def test_a_hold_has_its_times_its_owner_and_its_end() -> None:
    story = Story()
    token = story.acquire(100, "a", reason="Upgrade", host="h1")
    story.release(160, token)
    (hold,) = story.told()
    assert isinstance(hold, PastHold)
    assert (hold.lock, hold.owner, hold.host, hold.reason, hold.token) == ("db", "a", "h1", "Upgrade", token)
    assert (hold.since, hold.waited, hold.revision) == (exact(100), 0, token)
    assert hold.ended is not None
    assert (hold.ended.how, hold.ended.by, hold.ended.at, hold.ended.is_sure) == ("released", "a", exact(160), True)


def test_a_wait_that_is_followed_by_the_lock_is_part_of_the_hold() -> None:
    story = Story()
    first = story.acquire(100, "a")
    story.queue(110, "b", "1")
    story.release(160, first)
    second = story.acquire(161, "b", ticket="1")
    story.release(200, second)
    holds = story.told()
    assert [(hold.kind, hold.owner, hold.waited) for hold in holds] == [("hold", "a", 0), ("hold", "b", 51)]


def test_a_waiter_that_leaves_the_queue_is_told_between_the_changes_around_it() -> None:
    story = Story()
    token = story.acquire(100, "a")
    story.queue(110, "b", "1")
    story.put({}, delete=("db/queue/50/exclusive/1",))
    assert story.told() == []  # nothing says yet when that was at the latest
    story.release(160, token)
    wait, _ = story.told()
    assert isinstance(wait, PastWait)
    assert (wait.owner, wait.host, wait.since) == ("b", "h", exact(110))
    assert wait.ended is not None
    assert (wait.ended.how, wait.ended.at, wait.ended.is_sure) == ("left", Moment(110, 160), False)


def test_a_broken_hold_names_who_broke_it_and_why() -> None:
    story = Story()
    token = story.acquire(100, "a")
    story.release(160, token, how="broken", by="admin", note={"why": "its node is gone"})
    (hold,) = story.told()
    assert (hold.ended.how, hold.ended.by, hold.ended.why) == ("broken", "admin", "its node is gone")


def test_a_deletion_without_a_note_of_this_hold_is_no_release() -> None:
    story = Story()
    token = story.acquire(100, "a")
    story.release(150, token + 1000)  # a note about another hold
    story.reducer.advance_to(170)
    (hold,) = story.told()
    assert (hold.ended.how, hold.ended.by) == ("deleted", None)


@pytest.mark.parametrize(("keys", "is_sure"), [(("db",), False), (("db", "web"), True)])
def test_a_lease_that_ends_with_several_keys_has_certainly_expired(keys: tuple[str, ...], *, is_sure: bool) -> None:
    story = Story()
    story.put({key: record(100, "a", run="r") for key in keys}, lease=7)
    story.put({}, delete=keys)
    story.acquire(190, "b", "other")
    holds = story.told()
    assert [hold.lock for hold in holds] == list(keys)
    assert {(hold.ended.how, hold.ended.at, hold.ended.is_sure) for hold in holds} == {
        ("expired", Moment(100, 190), is_sure)
    }


def test_one_key_of_a_lease_that_goes_alone_was_perhaps_deleted() -> None:
    story = Story()
    story.put({"db": record(100, "a", run="r"), "web": record(100, "a", run="r")}, lease=7)
    story.put({}, delete=("db",))
    story.reducer.advance_to(200)
    (hold,) = story.told()
    assert (hold.ended.how, hold.ended.is_sure) == ("expired", False)


def test_a_kept_hold_says_since_when_and_why() -> None:
    story = Story()
    token = story.acquire(100, "a", reason="Upgrade")
    kept = record(100, "a", run="run-100", state="kept", state_since=130, reason="exit code 1 (Upgrade)")
    story.put({"db": kept})
    story.release(500, token, how="broken", by="admin")
    (hold,) = story.told()
    assert [(phase.state, phase.since.at, phase.reason) for phase in hold.phases] == [
        ("held", 100, ""),
        ("kept", 130, "exit code 1 (Upgrade)"),
    ]
    assert (hold.reason, hold.ended.how, hold.ended.at) == ("Upgrade", "broken", exact(500))


def test_a_state_of_an_older_version_is_between_the_changes_around_it() -> None:
    story = Story()
    token = story.acquire(100, "a")
    story.put({"db": record(100, "a", run="run-100", state="kept")})
    story.release(500, token)
    (hold,) = story.told()
    assert hold.phases[1].since == Moment(100, 500)


def test_a_cooled_lock_ends_at_the_time_that_its_record_names() -> None:
    story = Story()
    token = story.acquire(100, "a")
    cooling = record(100, "a", run="run-100", state="cooling", state_since=160, until=280)
    story.put({"db": cooling, NOTE + "db": record(160, "a", how="cooled", token=token)}, lease=9)
    story.put({}, delete=("db",))
    story.acquire(281, "b")
    (hold,) = story.told()
    assert (hold.ended.how, hold.ended.by, hold.ended.at) == ("cooled", "a", exact(280))
    assert hold.phases[-1].since == exact(160)


def test_a_cooling_lock_that_goes_early_did_not_end_at_that_time() -> None:
    story = Story()
    token = story.acquire(100, "a")
    cooling = record(100, "a", run="run-100", state="cooling", state_since=160, until=280)
    story.put({"db": cooling, NOTE + "db": record(160, "a", how="cooled", token=token)}, lease=9)
    story.put({}, delete=("db",))
    story.acquire(170, "b")
    (hold,) = story.told()
    assert hold.ended.at == Moment(160, 170)


def test_a_take_over_ends_the_dead_runs_hold() -> None:
    story = Story()
    story.acquire(100, "a", explicit=True)
    token = story.put({"db": record(100, "a", run="run-2", explicit=True, taken_over=True)})
    story.release(200, token)
    dead, taken_over = story.told()
    assert (dead.run, dead.ended.how, dead.ended.by) == ("run-100", "taken_over", "a")
    assert (taken_over.run, taken_over.token, taken_over.ended.how) == ("run-2", token, "released")
    assert taken_over.since == dead.ended.at == Moment(100, 200)  # its record has the beginning of the first


def test_a_note_that_is_written_again_says_nothing_about_the_present() -> None:
    story = Story()
    token = story.acquire(100, "a")
    story.release(110, token)
    note = record(110, "a", how="released", token=token)
    story.queue(200, "b", "1")
    story.put({}, delete=("db/queue/50/exclusive/1",))
    story.put({NOTE + "db": note})  # makes a claim void
    story.reducer.advance_to(300)
    _, wait = story.told()
    assert wait.ended.at == Moment(200, 300)


def test_a_number_of_another_program_bounds_nothing() -> None:
    story = Story()
    story.acquire(100, "a", lease=7)
    story.put({}, delete=("db",))
    story.put({"web": b"1;someone;by hand"})
    story.reducer.advance_to(300)
    (hold,) = story.told()
    assert hold.ended.at == Moment(100, 300)


def test_clocks_that_disagree_give_a_span_and_not_a_negative_one() -> None:
    story = Story()
    story.acquire(500, "fast", lease=7)
    story.put({}, delete=("db",))
    story.acquire(490, "slow", "web")
    (hold,) = story.told()
    assert hold.ended.at == Moment(490, 500)


def test_a_freeze_has_its_beginning_its_limit_and_its_end() -> None:
    story = Story()
    story.put({"__freeze": record(100, "admin", run="f", reason="audit", until=400)}, lease=5)
    story.acquire(150, "a", "other")
    story.put({}, delete=("__freeze",))
    story.acquire(160, "b", "another")
    (freeze,) = story.told()
    assert isinstance(freeze, PastFreeze)
    assert freeze.ended is not None
    assert (freeze.lock, freeze.owner, freeze.reason, freeze.limit) == (None, "admin", "audit", 400)
    assert (freeze.ended.how, freeze.ended.at) == ("thawed", Moment(150, 160))


def test_a_freeze_that_ends_after_its_limit_ended_by_itself() -> None:
    story = Story()
    story.put({"db/freeze": record(100, "admin", run="f", until=400)}, lease=5)
    story.put({}, delete=("db/freeze",))
    story.acquire(900, "b", "another")
    (freeze,) = story.told()
    assert (freeze.lock, freeze.ended.how, freeze.ended.is_sure) == ("db", "expired", False)
    assert freeze.ended.at == exact(400)


def test_a_freeze_that_is_replaced_ends_with_the_next() -> None:
    story = Story()
    story.put({"__freeze": record(100, "admin", run="f")})
    story.put({"__freeze": record(150, "boss", run="g")})
    (freeze,) = story.told()
    assert (freeze.owner, freeze.ended.how, freeze.ended.by) == ("admin", "replaced", "boss")
    assert freeze.ended.at == exact(150)
    assert len(story.reducer.keys()) == 1


def test_a_release_that_freezes_says_so() -> None:
    story = Story()
    token = story.acquire(100, "a")
    freeze = {"db/freeze": record(160, "a", run="f", exit_code=1)}
    story.put({NOTE + "db": record(160, "a", how="released", token=token), **freeze}, delete=("db",))
    (hold,) = story.told()
    assert hold.froze


def test_what_lasts_comes_at_the_end_in_order_of_beginning() -> None:
    story = Story()
    story.acquire(100, "a", "web")
    story.acquire(110, "b")
    story.queue(120, "c", "1")
    story.reducer.advance_to(200)
    assert story.told() == []
    story.reducer.tell_open()
    assert [(entry.kind, entry.owner, entry.ended) for entry in story.told()] == [
        ("hold", "a", None),
        ("hold", "b", None),
        ("wait", "c", None),
    ]


def test_live_each_entry_comes_when_it_begins_and_again_when_it_ends() -> None:
    story = Story(live=True)
    token = story.acquire(100, "a")
    (begun,) = story.told()
    assert (begun.owner, begun.ended) == ("a", None)
    story.release(150, token)
    (ended,) = story.told()
    assert (ended.token, ended.ended.how) == (begun.token, "released")


def test_a_compacted_history_begins_with_what_was_there() -> None:
    story = Story()
    story.entries.clear()
    reducer = Reducer(lambda key: place_of(key, PREFIX, "__internal_lock"), story.entries.append)
    held = story.kv("db", record(500, "a", run="r", reason="Upgrade"), 40)
    old = story.kv(NOTE + "web", record(450, "admin", how="broken", owner="b", since=400, token=30, reason="x"), 45)
    reducer.begin(50, (held,), (old,), "compacted")
    note = record(600, "a", how="released", token=40)
    reducer.change(51, [Event(True, held._replace(mod_revision=51)), Event(False, story.kv(NOTE + "db", note, 51))])
    reach, ended, hold = story.entries
    assert reach == Reach(50, Moment(500, 600), "compacted")
    assert (ended.lock, ended.owner, ended.since, ended.waited) == ("web", "b", exact(400), None)
    assert (ended.ended.how, ended.ended.by, ended.ended.at) == ("broken", "admin", exact(450))
    assert (hold.since, hold.waited, hold.revision, hold.ended.how) == (exact(500), None, 0, "released")


def test_a_gap_says_what_is_missing_and_how_far_the_notes_help() -> None:
    story = Story()
    first = story.acquire(100, "a")
    story.acquire(110, "b", "web")
    story.acquire(120, "c", "stays")
    before = story.revision
    stays = story.kv("stays", record(120, "c", run="run-120"), 4)
    new = story.kv("db", record(400, "d", run="run-400"), 90)
    noted = story.kv(NOTE + "db", record(390, "a", how="released", token=first), 89)
    passed = story.kv(NOTE + "passed", record(395, "e", how="released", owner="e", since=300, token=80), 88)
    story.reducer.skip(100, (stays, new), (noted, passed))
    story.reducer.advance_to(500)
    gap, *rest = story.told()
    assert gap == Gap(before, 100, exact(120), Moment(120, 500))
    assert [(one.lock, one.owner, one.ended.how, one.ended.at) for one in rest] == [
        ("db", "a", "released", exact(390)),
        ("web", "b", "unknown", Moment(120, 500)),
        ("passed", "e", "released", exact(395)),
    ]
    assert set(story.reducer.keys()) == {b"/r/stays", b"/r/db"}


def test_memory_does_not_grow_with_the_history() -> None:
    story = Story()
    for at in range(1000, 3000, 2):
        story.release(at + 1, story.acquire(at, "a"))
        story.told()
    assert len(story.reducer.keys()) == 0
    assert len(story.reducer._outbox._waiting) == 0
    assert len(story.reducer._times._open) == 0


VALUES = [
    b"",
    b"\xff\xfe",
    b"free text",
    b"5;go-client;reason",
    b"99999999999999999;x;{}",
    record(100, "a", run="r1", host="h"),
    record(200, "a", run="r1", state="kept", state_since=210, reason="why"),
    record(200, "a", run="r2", taken_over=True),
    record(300, "b", run="r3", state="cooling", state_since=1, until=400),
    record(50, "b", how="released", token=3, since=40, owner="a", run="r1"),
    record(60, "c", how="broken", token="x", since="y", owner=7, why=[1]),
    record(70, "c", run="f", until="never", host=3),
]
KEYS = [
    "db",
    "db/slot/1",
    "db/slot/x",
    "db/queue/1",
    "db/queue/x/50/2",
    "db/freeze",
    "__freeze",
    "__last/db",
    "web",
    "é",
]


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(KEYS),
            st.one_of(st.none(), st.tuples(st.sampled_from(VALUES), st.sampled_from([0, 0, 7]))),
            min_size=1,
            max_size=3,
        ),
        max_size=30,
    ),
    st.booleans(),
    st.integers(0, 30),
)
@example(
    [
        {"db": None, "db/queue/1": (b"5;go-client;reason", 0)},
        {"db": (b"99999999999999999;x;{}", 0), "db/queue/1": None},
    ],
    False,
    0,
)
def test_whatever_is_in_etcd_becomes_entries_with_sensible_times(
    changes: list[dict[str, tuple[bytes, int] | None]], live: bool, gap_after: int
) -> None:
    story = Story(live=live)
    there: dict[str, KeyValue] = {}
    revision = 1
    for number, change in enumerate(changes):
        revision += 1
        events = []
        for name, put in change.items():
            if put is None:
                if there.pop(name, None):
                    events.append(Event(True, KeyValue(story.key(name), b"", 0, revision, 0)))
                continue
            value, lease = put
            born = there[name].create_revision if name in there else revision
            there[name] = KeyValue(story.key(name), value, born, revision, lease)
            events.append(Event(False, there[name]))
        if number == gap_after:
            present = list(there.values())
            story.reducer.skip(revision, present, [kv for kv in present if b"__last" in kv.key])
        elif events:
            story.reducer.change(revision, events)
    followed = {kv.key: kv.mod_revision for name, kv in there.items() if "__last" not in name}
    assert story.reducer.keys() == followed
    story.reducer.advance_to(1000)
    if not live:
        story.reducer.tell_open()
    for entry in story.entries:
        for moment in entry.moments:
            assert moment.earliest is None or moment.latest is None or moment.earliest <= moment.latest
        json.dumps(entry.fields())
        if entry.kind not in ("reach", "gap"):
            assert len(row(entry, 1000)) == len(HEADING)
    if not live:
        assert [
            entry for entry in story.entries if entry.kind != "gap" and entry.moments[0].between == (None, None)
        ] == []
    picture = timeline(story.entries, 1000)
    assert picture.start < picture.end
    plot_terminal.draw(picture, 80, colour=True, ascii_only=True)
