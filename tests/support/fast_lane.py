"""The tests of `make test-fast`: some of every package, one plain etcd, and few processes.

    python -m tests.support.fast_lane

prints them as arguments for pytest, which fails where one of them is no longer there. `tests/test_fast_lane.py` checks
that no package of distlock_core is left out.
"""

from __future__ import annotations

from tests.support.etcd_servers import NEWEST

# By package of distlock_core, and by module that stands beside them: paths below the folder of that name in tests/.
LANE: dict[str, tuple[str, ...]] = {
    "adapters": ("test_acquire_release.py",),
    "aio": ("test_lock.py",),
    "base": ("",),
    "cli": (
        "test_bad_input.py::test_the_command_refuses",
        "test_hints.py::test_help_fits_80_columns",
        "test_operations.py::test_list_is_a_table_for_people",
        "test_operations.py::test_lock_leaves_the_lock_held_and_unlock_releases_it",
        "test_operations.py::test_show_names_the_holder_and_the_waiters_in_order",
        "test_operations.py::test_the_commands_environment_names_the_lock_it_holds",
        "test_operations.py::test_the_lock_is_there_while_the_command_runs_and_gone_afterwards",
        "test_options.py::test_help_names_every_option_and_variable_and_shows_examples",
        "test_options.py::test_the_option_wins_over_the_environment_and_that_over_the_file",
        "test_start_up.py",
    ),
    "cli/puppet": (
        "test_distlock_puppet.py::test_a_run_is_known_by_its_words",
        "test_distlock_puppet.py::test_exec_exits_as_its_command",
        "test_distlock_puppet.py::test_options_may_precede_or_follow_the_name_and_the_command_is_left_alone",
        "test_resource_call.py::test_locked_is_no_change_the_second_time_and_unlocked_neither",
    ),
    "cli/salt": ("test_beacon.py::test_each_end_is_told_from_the_others", "test_bus.py"),
    "command": (
        "test_on_failure.py",
        "test_supervisor.py::test_a_daemon_that_a_leased_command_leaves_is_neither_waited_for_nor_killed",
        "test_supervisor.py::test_a_stopped_command_is_killed_too",
    ),
    "embedded": (
        "test_cluster.py::test_a_started_cluster_answers_at_once",
        "test_cluster.py::test_find_etcd_finds_the_version_asked_for",
    ),
    "doctor": ("",),
    "etcd": (
        f"test_leases.py::test_revoking_deletes_the_keys_and_twice_is_no_error[{NEWEST}-plain-gateway]",
        f"test_reads_and_writes.py::test_all_fields_of_a_key_are_returned[{NEWEST}-plain-gateway]",
        f"test_reads_and_writes.py::test_a_refused_transaction_changes_nothing[{NEWEST}-plain-gateway]",
        f"test_watches.py::test_every_range_of_a_watch_is_watched[{NEWEST}-plain-gateway]",
    ),
    "etcd/auth": (
        "test_access_options.py::test_a_wrong_password_setting_is_refused_without_showing_it",
        "test_access_options.py::test_no_text_form_shows_the_password",
        "test_access_options.py::test_contradicting_settings_are_refused_without_showing_the_password",
    ),
    "etcd/grpc": (
        f"../test_reads_and_writes.py::test_all_fields_of_a_key_are_returned[{NEWEST}-plain-grpc]",
        f"../test_watches.py::test_every_range_of_a_watch_is_watched[{NEWEST}-plain-grpc]",
    ),
    "etcd/http": ("test_gateway.py::test_a_watch_reads_several_values_of_one_chunk",),
    "events": (
        "test_ownership.py",
        "test_watching.py::test_neighbours_the_queue_and_keys_that_are_no_lock_are_left_out",
    ),
    "history": (
        "test_reducer.py",
        "test_reading.py::test_a_history_has_holds_waits_breaks_and_freezes_as_they_were",
    ),
    "keeper": (
        "test_pid_keeper.py::test_the_lock_is_released_when_the_process_ends",
        "test_run_keeper.py::test_a_refusal_is_reported_with_its_kind",
        "test_run_keeper.py::test_a_keeper_queues_reports_the_holder_and_gets_its_turn",
    ),
    "rollout": ("test_needed.py",),
    "lock": (
        "test_freeze.py::test_a_second_freeze_leaves_the_first",
        "test_queue.py::test_thirty_waiters_are_served_in_order_of_arrival",
        "test_queue.py::test_a_waiter_learns_its_position_and_the_holder",
        "test_release.py::test_a_late_release_keeps_the_newer_holder",
        "test_release.py::test_unlock_by_name_removes_any_holder",
        "test_status.py",
        "test_values.py",
    ),
    "manager": (
        "test_manager.py::test_a_with_block_contends_and_releases",
        "test_manager.py::test_ownership_follows_have_lock_and_ends_with_it",
    ),
    "model": ("",),
    "process": (
        "test_while_alive.py::test_a_family_is_gone_when_its_last_process_is",
        "test_while_alive.py::test_a_caller_is_gone_when_its_end_of_the_pipe_is_closed",
    ),
    "settings": ("test_load.py", "test_config_file.py"),
    "testing": ("test_faults.py",),
}
BESIDES = ("docs/test_guarantees.py", "docs/test_prose.py", "test_fast_lane.py", "test_layout.py")


def arguments() -> list[str]:
    """The arguments for pytest."""
    lane = [f"{package}/{path}".rstrip("/") for package, paths in LANE.items() for path in paths]
    return [f"tests/{path.replace('/grpc/../', '/')}" for path in (*lane, *BESIDES)]


if __name__ == "__main__":
    print("\n".join(arguments()))
