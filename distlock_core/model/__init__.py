"""Names, keys, records and states of locks, and sentences about them; pure. Imports only `etcd.values` and below."""
