"""The settings of access to etcd: how it is found, spoken to, verified, and as whom. tests/secure exercises them."""

OF_ACCESS = frozenset(
    (
        *("discovery_srv", "transport", "cacert", "cert", "key", "tls_server_name"),
        *("user", "password", "password_file"),
    )
)
