# Upgrade a MySQL primary with replicas, which all have this class, one node at a time. Replicas have a lower rank, so
# they are served first, and the primary also waits until all replicas have the upgrade.
class mysql_upgrade (
  Boolean $primary,
) {
  $rank = $primary ? {
    true    => 90,
    default => 10,
  }
  $gate = $primary ? {
    true    => ['/usr/local/bin/replicas-upgraded'],
    default => undef,
  }

  package { 'mysql-community-server':
    ensure => latest,
  }

  distlock::protect { 'mysql_prod':
    resources => [Package['mysql-community-server']],
    reason    => 'Upgrade of MySQL',
    timeout   => 3600,
    rank      => $rank,
    gate      => $gate,
  }
}
