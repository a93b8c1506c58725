"""What everything else is built on: named tuples, deadlines, threads. Imports only `errors`."""
