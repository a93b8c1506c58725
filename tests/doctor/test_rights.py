"""Judgement of rights, key by key."""

from __future__ import annotations

import re

from distlock_core.doctor.rights import Granted, Need, judge_rights, of_a_lock, of_the_realm, whole_realm
from distlock_core.model.keys import Keys
from tests.support.doc_blocks import marked

WHO, PREFIX = "etcd's user 'node'", "/distlock/"
LOCK = of_a_lock(Keys(PREFIX, "db"))


def granted(needs: list[Need], *refused: tuple[str, str]) -> list[Granted]:
    """All of these granted, except rights to keys that are shown so."""
    return [Granted(need, (need.right, need.shown) not in refused) for need in needs]


def test_the_whole_realm_is_enough() -> None:
    (one,) = judge_rights(WHO, PREFIX, granted([*whole_realm(PREFIX)]), ["db"])
    assert (one.status, one.message) == ("ok", f"{WHO} may read and write everything below /distlock/")


def test_a_monitor_that_only_reads_is_a_warning_and_what_it_lacks_is_named() -> None:
    found = [Granted(need, need.right == "read") for need in (*whole_realm(PREFIX), *of_the_realm(PREFIX))]
    (one,) = judge_rights(WHO, PREFIX, found, [])
    assert one.status == "warn"
    assert "may not write /distlock/__freeze" in one.message
    assert "read" not in one.message


def test_a_user_without_any_right_is_bad() -> None:
    found = [Granted(need, False) for need in (*whole_realm(PREFIX), *of_the_realm(PREFIX))]
    (one,) = judge_rights(WHO, PREFIX, found, [])
    assert (one.status, one.message) == ("bad", f"{WHO} may neither read nor write below /distlock/")


def test_each_lock_is_judged_by_itself() -> None:
    none = [Granted(need, False) for need in whole_realm(PREFIX)]
    web = of_a_lock(Keys(PREFIX, "web"))
    found = [*none, *granted(LOCK), *granted(web, ("write", "/distlock/__last/web"), ("read", "/distlock/web"))]
    db, other = judge_rights(WHO, PREFIX, found, ["db", "web"])
    assert (db.status, db.about) == ("ok", "db")
    assert other.status == "bad"
    assert other.message == f"{WHO} cannot use web: it may not read /distlock/web, nor write /distlock/__last/web"
    assert len(other.facts["keys"]) == len(web)


def test_a_right_that_only_administration_needs_is_no_fault_of_a_node() -> None:
    none = [Granted(need, False) for need in whole_realm(PREFIX)]
    (one,) = judge_rights(WHO, PREFIX, [*none, *granted(LOCK, ("write", "/distlock/__policy/db"))], ["db"])
    assert one.status == "ok"


def test_what_could_not_be_found_out_is_said() -> None:
    found = [Granted(whole_realm(PREFIX)[0], None, "etcd's database is full")]
    (one,) = judge_rights(WHO, PREFIX, found, [])
    assert (one.status, "etcd's database is full" in one.message) == ("skipped", True)


def test_the_needs_of_a_lock_are_the_least_role_in_the_docs() -> None:
    (block,) = marked("role: lock")
    documented = set()
    for line in block.text.splitlines():
        found = re.search(r"(--prefix=true )?(readwrite|read) (\S+)$", line)
        if found:
            rights = ("read", "write") if found[2] == "readwrite" else ("read",)
            documented |= {(right, found[3] + ("*" if found[1] else "")) for right in rights}
    needs = of_a_lock(Keys(PREFIX, "percona_prod"))
    assert {(need.right, need.shown) for need in needs if need.essential} == documented
