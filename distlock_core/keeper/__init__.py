"""A separate process that keeps a lock for another process. Imports `command` and below."""
