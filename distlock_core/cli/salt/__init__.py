"""What Salt loads beside its states: functions, runner, events and beacon."""
