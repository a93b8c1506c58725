# Upgrade a cluster, one node at a time. Every node has this class; `due` comes from Hiera, or from a custom fact.
#
# On a node that does not get the lock, the first resource fails and the others are skipped; its next run tries again.
# If the upgrade fails, the lock stays, and no other node is upgraded. Repair the node and run Puppet on it again: it
# continues under its own lock.
class upgrade_node (
  Boolean $due = false,
  String[1] $lock = 'percona_prod',
  Array[String[1]] $package = ['/usr/bin/apt-get', '--yes', 'install', 'percona-server-server'],
  Array[String[1]] $service = ['/usr/bin/systemctl', 'restart', 'mysql'],
  Array[String[1]] $health = ['/usr/bin/mysqladmin', '--wait=10', 'ping'],
) {
  if $due {
    distlock { $lock:
      ensure => locked,
      reason => 'Upgrade of Percona Server',
    }
    -> exec { 'the package':
      command => $package,
      timeout => 1800,
    }
    -> exec { 'the service':
      command => $service,
    }
    -> exec { 'its health':
      command   => $health,
      tries     => 30,
      try_sleep => 10,
    }
    -> distlock { "${lock}: next one, please":
      ensure    => unlocked,
      lock_name => $lock,
    }
  }
}
