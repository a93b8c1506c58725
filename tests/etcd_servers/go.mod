// The etcd servers that the tests run beside Debian's and the wheel's: `make etcd` builds each X.Y.mod of this folder.
// Go wants a file of this name to be here; it reads X.Y.mod instead.
module distlock/etcd_servers
