"""Keepers: detached processes that keep a lock for another process. Imports `command` and below."""
