# Upgrade an Elasticsearch of 200 in racks: every node has this class. A run without an upgrade takes no lock. Never two
# nodes of one rack at once, and in the whole cluster no more than the policy says: a node takes the lock of its rack and a
# slot of the cluster, both or none. Nobody begins unless the cluster is green and moves no shards. If the upgrade fails, or
# the cluster is not green within an hour after it, both locks stay: no other node of the rack follows, and the cluster has
# a slot less until a person has looked.
class elasticsearch_upgrade (
  String[1] $rack,
) {
  # No more than each index has replicas.
  distlock::policy { 'elastic_prod':
    slots  => 2,
    expect => '15m',
  }

  package { 'elasticsearch':
    ensure => latest,
  }

  service { 'elasticsearch':
    ensure    => running,
    subscribe => Package['elasticsearch'],
  }

  distlock::protect { 'alone in its rack':
    lock_names   => ["elastic_${rack}", 'elastic_prod'],
    resources    => [Package['elasticsearch'], Service['elasticsearch']],
    reason       => 'Upgrade of Elasticsearch',
    timeout      => 3600,
    gate         => ['/usr/local/bin/cluster-is-green'],
    gate_timeout => 3600,
    gate_for     => 10,
    require      => Distlock::Policy['elastic_prod'],
  }
}
