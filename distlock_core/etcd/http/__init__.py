"""etcd's JSON gateway over HTTP/1.1, with connections of its own. The default transport."""
