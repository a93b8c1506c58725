# A lock around whole Puppet runs: a run applies nothing while another node's run is in progress.
#
# It takes effect with the second run: the first one, which sets it up, has begun without the lock.
class whole_run (
  Array[String[1]] $endpoints = ['http://10.0.0.1:2379', 'http://10.0.0.2:2379', 'http://10.0.0.3:2379'],
  String[1] $lock = 'percona_prod',
  # The source of the package: a directory with its wheel and PyYAML's.
  Hash[String[1], Any] $distlock = { 'pip_options' => ['--no-index', '--find-links=/srv/wheels'] },
  Hash[String[1], Any] $run_lock = {},
) {
  class { 'distlock':
    endpoints => $endpoints,
    *         => $distlock,
  }

  class { 'distlock::run_lock':
    lock_name => $lock,
    reason    => 'Puppet run',
    *         => $run_lock,
  }
}
