"""The settings of access to etcd: endpoints, transport, TLS and user. tests/etcd/auth exercises them."""

OF_ACCESS = frozenset(
    (
        *("discovery_srv", "transport", "cacert", "cert", "key", "tls_server_name"),
        *("user", "password", "password_file"),
    )
)
