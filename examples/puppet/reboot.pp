# An upgrade with a reboot, during which the lock stays. The first run locks, installs and reboots. The first run after
# the reboot finds its own lock and the installed update, checks the node, and unlocks.
class reboot_node (
  String[1] $lock = 'percona_prod',
  Array[String[1]] $is_done = ['/usr/local/sbin/runs-the-newest-kernel'],
  Array[String[1]] $install = ['/usr/bin/apt-get', '--yes', 'dist-upgrade'],
  Array[String[1]] $reboot = ['/usr/sbin/shutdown', '--reboot', 'now'],
  Array[String[1]] $health = ['/usr/bin/mysqladmin', '--wait=10', 'ping'],
) {
  distlock { $lock:
    ensure => locked,
    reason => 'New kernel',
  }
  -> exec { 'install':
    command => $install,
    unless  => [$is_done],
    timeout => 1800,
  }
  -> exec { 'reboot':
    command => $reboot,
    unless  => [$is_done],
  }
  -> exec { 'it is done':
    command => $is_done,
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
