# Upgrade a Percona cluster of three nodes, which all have this class. A run that finds no upgrade takes no lock. An
# upgrade begins only when all three nodes are in the cluster and synced. If it fails, or the cluster is not healthy
# within half an hour after it, the lock stays, and no other node is upgraded.
class percona_upgrade {
  package { 'percona-server-server':
    ensure => latest,
  }

  distlock::protect { 'percona_prod':
    resources    => [Package['percona-server-server']],
    reason       => 'Upgrade of Percona Server',
    timeout      => 3600,
    gate         => ['/usr/local/bin/all-nodes-synced'],
    gate_timeout => 1800,
    gate_for     => 10,
  }
}
