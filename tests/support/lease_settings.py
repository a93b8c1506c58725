"""The settings of leases: what becomes of a lock, or of its command, in time. tests/leases exercises them."""

OF_LEASES = frozenset(
    (
        *("ttl", "refresh", "kill_after", "on_loss", "on_failure", "cooldown", "heartbeat", "node", "while_pid"),
        *("log_file", "record_arguments", "wait_for"),
    )
)
