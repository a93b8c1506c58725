"""Foundations of all other packages: named tuples, deadlines, threads. Imports only `errors`."""
