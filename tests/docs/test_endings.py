"""Each cell of the tables in docs/salt.md and docs/puppet.md that say where a lock is after a run has a test.

The table in docs/ansible.md is read by its own test.
"""

from __future__ import annotations

import ast
import functools

import pytest

from tests.support.paths import ROOT

SALT = "tests/salt_modules"
RUNS, TYPE, EXEC, SERVER = (
    "tests/puppet_runs/test_run_ends.py",
    "tests/puppet_module/test_type.py",
    "tests/puppet_module/test_exec.py",
    "tests/puppet_runs/test_puppetserver.py",
)
STATES, FLEET, CALLS = f"{SALT}/test_states.py", f"{SALT}/test_fleet.py", f"{SALT}/test_salt_run_ends.py"
SALT_RUN_END = f"{STATES}::test_a_run_end_lock_ends_with_the_run"
SALT_CALL = f"{CALLS}::test_a_lock_until_the_runs_end_stays_while_the_command_of_a_run_that_was_ended_works"
SALT_ORDER = f"{STATES}::test_order_last_unlocks_after_a_failure_but_not_after_failhard"
SALT_JOB = (
    f"{FLEET}::test_a_job_killed_under_unlocked_leaves_the_lock_and_the_same_minion_continues",
    f"{FLEET}::test_a_job_that_is_ended_under_run_end_keeps_the_lock_for_its_command_and_not_for_the_ttl",
)
SALT_MACHINE = f"{CALLS}::test_a_lock_whose_run_and_keeper_are_both_killed_expires_by_its_ttl"
NOOP = f"{RUNS}::test_a_noop_run_writes_nothing_however_the_lock_is_used"
ENDED = f"{RUNS}::test_the_run_is_ended_by"
CRASH = f"{RUNS}::test_after_a_machine_crash_others_get_the_lock_after_its_ttl"
CRASH_WITHOUT_TTL = f"{RUNS}::test_after_a_machine_crash_a_lock_without_a_ttl_stays_and_its_node_continues"

# By page and the head of the table: for each row its tests, one for each cell that says where the lock is.
TABLES: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("docs/salt.md", "| what ends the run |"): {
        "all succeed": (f"{FLEET}::test_the_example_has_one_minion_at_work_at_every_moment", SALT_RUN_END),
        "a state fails, and `unlocked` requires it": (
            f"{FLEET}::test_the_orchestration_names_the_holder_when_a_node_has_failed",
            SALT_RUN_END,
        ),
        "a state fails, and `unlocked` has `order: last` and no such `require`": (SALT_ORDER, SALT_RUN_END),
        "the same with `failhard`": (SALT_ORDER, SALT_RUN_END),
        "`salt-call` is ended by TERM, INT, HUP or KILL": (SALT_CALL, SALT_CALL),
        "a minion's job is ended: `saltutil.term_job`, SIGKILL (out of memory)": SALT_JOB,
        "`saltutil.kill_job`": SALT_JOB,
        "run and keeper are both killed by SIGKILL; the machine dies or reboots": (SALT_MACHINE, SALT_MACHINE),
    },
    ("docs/puppet.md", "| | prerun |"): {
        "all resources applied": (f"{RUNS}::test_all_resources_applied",),
        "a resource fails": (f"{RUNS}::test_a_resource_fails",),
        "noop, by option or configuration": (f"{RUNS}::test_a_noop_run",),
        "pre fails: another holds the lock": (f"{RUNS}::test_pre_fails",),
        "pre fails: etcd is away": (f"{RUNS}::test_pre_and_post_fail_since_etcd_is_away",),
        "post fails, or is another command": (f"{RUNS}::test_without_a_release_by_post_the_keeper_releases",),
        "`puppet apply`: the manifest does not compile": (f"{RUNS}::test_the_manifest_does_not_compile",),
        "`puppet agent`: the catalog does not compile": (f"{SERVER}::test_a_catalog_that_does_not_compile",),
        "the catalog cannot be applied (a dependency cycle)": (f"{RUNS}::test_the_catalog_cannot_be_applied",),
        "INT, TERM or HUP while a command runs": (ENDED,),
        "KILL while a command runs": (ENDED,),
        "KILL between two resources": (f"{RUNS}::test_the_run_is_killed_between_two_resources",),
        "run and keeper are killed together": (
            f"{RUNS}::test_a_lock_left_by_a_dead_run_without_a_keeper_is_its_nodes_at_once",
        ),
        "the machine dies or reboots": (CRASH,),
    },
    ("docs/puppet.md", "| | `distlock::exec` |"): {
        "all resources applied": (
            f"{EXEC}::test_a_command_runs_under_the_lock_with_execs_own_parameters",
            f"{TYPE}::test_it_waits_for_its_turn_and_releases_at_the_end_of_the_run",
            f"{TYPE}::test_a_run_locks_finds_its_own_lock_again_and_unlocks",
        ),
        "a resource fails": (
            f"{RUNS}::test_a_command_under_the_lock_fails",
            f"{RUNS}::test_a_resource_fails_under_a_lock_until_the_runs_end",
            f"{RUNS}::test_a_resource_before_the_unlock_fails",
        ),
        "noop": (NOOP, NOOP, NOOP),
        "INT, TERM, HUP or KILL while a command runs": (
            ENDED,
            ENDED,
            f"{RUNS}::test_a_lock_that_the_end_of_the_run_would_unlock_stays_where_the_run_is_ended_by",
        ),
        "the machine dies or reboots": (CRASH_WITHOUT_TTL, CRASH, CRASH_WITHOUT_TTL),
    },
}


@functools.cache
def names_of_tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def rows(page: str, head: str) -> dict[str, list[str]]:
    """The other cells of each row of a table, by the first one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text.count(f"\n{head}") == 1, head
    table = text.partition(f"\n{head}")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {first: rest for first, *rest in cells}


@pytest.mark.parametrize(("page", "head"), TABLES)
def test_every_cell_has_a_test(page: str, head: str) -> None:
    tested, found = TABLES[page, head], rows(page, head)
    assert list(found) == list(tested)
    for row, tests in tested.items():
        assert len(tests) in (1, len(found[row])), row
        for test in tests:
            file, _, name = test.partition("::")
            assert name in names_of_tests(file), test
