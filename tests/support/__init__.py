"""Shared by the tests: programs that they start, and views of these from outside."""
