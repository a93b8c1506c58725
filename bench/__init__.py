"""Benchmarks: the cost of a lock, compared with other tools in the same run: ``python -m bench``."""
