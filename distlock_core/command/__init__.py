"""A command under a lock: starting it, signals, its end, the end of all it has started. Imports `lock` and below."""
