"""The settings of leases: times after which a lock or its command ends. tests/cli exercises them."""

OF_LEASES = frozenset(
    (
        *("ttl", "refresh", "kill_after", "on_loss", "on_failure", "cooldown", "heartbeat", "node", "while_pid"),
        *("log_file", "record_arguments", "wait_for"),
    )
)
