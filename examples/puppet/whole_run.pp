# The lock around whole runs of Puppet: a run applies nothing while another node's run is under way.
#
# It counts from the second run on, since the first one has begun without it.
class whole_run (
  Array[String[1]] $endpoints = ['http://10.0.0.1:2379', 'http://10.0.0.2:2379', 'http://10.0.0.3:2379'],
  String[1] $lock = 'percona_prod',
  # Where the package comes from; a folder with its wheel and PyYAML's.
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
