# Upgrade a Percona cluster of three: every node has this class. A run without an upgrade takes no lock; nobody begins
# before all three are in the cluster and synced. If the upgrade fails, or the cluster is not healthy within half an hour
# after it, the lock stays, and no other node follows.
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
