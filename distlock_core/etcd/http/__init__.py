"""The driver for etcd's JSON gateway over HTTP/1.1, with a small HTTP client. The default transport."""
