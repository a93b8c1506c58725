"""A command under a lock: start, signals, end, and the end of all its descendants. Imports `lock` and below."""
