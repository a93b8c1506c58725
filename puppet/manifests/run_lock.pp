# @summary A lock around whole Puppet runs: a run applies nothing while another node holds it.
#
# Sets prerun_command and postrun_command in this node's own puppet.conf. From the next run on, every run first acquires
# the lock, and fails if it cannot. The lock is bound to the run: it ends with the run, however that ends. Noop runs
# acquire no lock, unless `noop_runs` is set; a noop run that would apply a resource with `noop => false` is refused.
#
# @example
#   class { 'distlock::run_lock':
#     lock_name => 'percona_prod',
#   }
#
# @param lock_name
#   Name of the lock.
# @param lock_names
#   Several locks instead of `lock_name`, which are acquired together or not at all. Their order makes no
#   difference.
# @param lock_timeout
#   Seconds to wait for the lock: 0 fails at once, -1 waits forever. Default: the setting in the environment or config file
#   of the node, else 0.
# @param ttl
#   How many seconds the lock outlives the machine.
# @param reason
#   Why the lock is taken; shown to everybody who looks or waits.
# @param rank
#   Waiters with a lower rank are served first, and those with the same rank in the order of arrival. Default: 50.
# @param owner
#   Default: `puppet:` and the certname.
# @param slots
#   Number of simultaneous holders allowed; the same number everywhere.
# @param window
#   Times outside of which no run acquires the lock, such as `Mon-Fri 22:00-04:00 Europe/Berlin, !Sat`. A policy of the lock
#   comes before it.
# @param expect
#   Time that a run is expected to take, such as `20m`: after it, the hold is shown as OVERDUE.
# @param on_loss
#   `kill` ends a run whose lock is lost; `continue`, the default, writes a warning to syslog.
# @param on_failure
#   What to do with the lock if the run fails, is told to stop, or is killed, until a person has looked: `keep` leaves it
#   taken; `freeze` releases it, and lets nobody acquire it, in any slot. A run has failed if one of its resources has.
# @param cooldown
#   Seconds that the lock stays taken after a run that has not failed.
# @param gate
#   A program that exits with 0 if the cluster is healthy. Until then no run acquires the lock. It is not run at the end of
#   a Puppet run.
# @param gate_timeout
#   Seconds that one answer of the gate may take.
# @param gate_every
#   Seconds between two questions to the gate.
# @param gate_for
#   Seconds for which the gate must have been green.
# @param noop_runs
#   Whether noop runs acquire the lock too, for resources that have `noop => false`.
# @param shared
#   Whether the lock is held together with any number of other shared holders, but with no exclusive one.
# @param ensure
#   `absent` removes the two settings if they run distlock-puppet.
# @param section
#   The section of puppet.conf: `main` is for `puppet agent` and `puppet apply`, `agent` for the agent alone, `user` for
#   `puppet apply` alone.
# @param puppet_conf
#   The file. Default: the puppet.conf that the run has read.
# @param program
#   The path of distlock-puppet. Default: where the class `distlock` installs it, else `/usr/local/bin/distlock-puppet`.
# @param config
#   Path of distlock's config file. Default: as for the class `distlock`, if included, else distlock's default file.
class distlock::run_lock (
  Optional[Distlock::Word] $lock_name = undef,
  Optional[Array[Distlock::Word, 1]] $lock_names = undef,
  Optional[Distlock::Timeout] $lock_timeout = undef,
  Optional[Distlock::Duration] $ttl = undef,
  Optional[Pattern[/\A[A-Za-z0-9 _.,:;@%+=()\/-]{1,200}\z/]] $reason = undef,
  Optional[Integer[0, 99]] $rank = undef,
  Optional[Distlock::Word] $owner = undef,
  Optional[Integer[1, 1000]] $slots = undef,
  Optional[Pattern[/\A[A-Za-z0-9 _.,:\/!+-]{1,500}\z/]] $window = undef,
  Optional[Distlock::Duration] $expect = undef,
  Optional[Enum['continue', 'kill']] $on_loss = undef,
  Optional[Enum['release', 'keep', 'freeze']] $on_failure = undef,
  Optional[Distlock::Duration] $cooldown = undef,
  Optional[Distlock::Plainpath] $gate = undef,
  Optional[Distlock::Duration] $gate_timeout = undef,
  Optional[Distlock::Duration] $gate_every = undef,
  Optional[Variant[Integer[0], Float[0.0], Distlock::Duration]] $gate_for = undef,
  Boolean $noop_runs = false,
  Boolean $shared = false,
  Enum['present', 'absent'] $ensure = 'present',
  Enum['main', 'agent', 'user'] $section = 'main',
  Optional[Distlock::Path] $puppet_conf = undef,
  Optional[Distlock::Plainpath] $program = undef,
  Optional[Distlock::Plainpath] $config = undef,
) {
  if $ensure == 'present' and $lock_name == undef and $lock_names == undef {
    fail('distlock::run_lock: lock_name is required')
  }
  if $lock_names != undef and $lock_name != undef {
    fail('distlock::run_lock: lock_name, lock_names: use one of the two')
  }
  $lock_words = $lock_names ? {
    undef   => $lock_name,
    default => join($lock_names.map |$name| { "--lock-name=${name}" }, ' '),
  }

  $locks = $lock_names ? {
    undef   => $lock_name,
    default => $lock_names,
  }

  $of_class = getvar('distlock::install') ? {
    'venv'    => "${getvar('distlock::command_dir')}/distlock-puppet",
    'package' => '/usr/bin/distlock-puppet',
    default   => '/usr/local/bin/distlock-puppet',
  }
  $chosen = $program ? {
    undef   => $of_class,
    default => $program,
  }
  $found = assert_type(Distlock::Plainpath, $chosen)
  $file = $config ? {
    undef   => getvar('distlock::config_file'),
    default => $config,
  }
  $config_file = assert_type(Optional[Distlock::Plainpath], $file)

  # Puppet expects one string here. It contains nothing that a shell or puppet.conf would interpret. The lock stands
  # last: puppet.conf loses a quote at the end of a line.
  $where = $config_file ? {
    undef   => '',
    default => " --config=${config_file}",
  }
  $how = {
    'timeout'      => $lock_timeout,
    'ttl'          => $ttl,
    'id'           => $owner,
    'slots'        => $slots,
    'rank'         => $rank,
    'expect'       => $expect,
    'on-loss'      => $on_loss,
    'on-failure'   => $on_failure,
    'gate'         => $gate,
    'gate-timeout' => $gate_timeout,
    'gate-every'   => $gate_every,
    'gate-for'     => $gate_for,
  }
  $words = $how.filter |$_, $value| { $value =~ NotUndef }.map |$option, $value| { " --${option}=${value}" }.join('')
  $end = { 'on-failure' => $on_failure, 'cooldown' => $cooldown }
  $end_words = $end.filter |$_, $value| { $value =~ NotUndef }.map |$option, $value| { " --${option}=${value}" }.join('')
  $always = $noop_runs ? {
    true    => ' --noop-runs',
    default => '',
  }
  $together = $shared ? {
    true    => ' --shared',
    default => '',
  }
  $why = $reason ? {
    undef   => '',
    default => " --reason='${reason}'",
  }
  $when = $window ? {
    undef   => '',
    default => " --window='${window}'",
  }

  distlock_puppet_conf { "${section}/prerun_command":
    ensure      => $ensure,
    value       => "${found} acquire${words}${always}${together}${where}${when}${why} ${lock_words}",
    path        => $puppet_conf,
    guards_noop => $noop_runs,
    lock        => $locks,
    program     => $found,
    config      => $config_file,
  }

  distlock_puppet_conf { "${section}/postrun_command":
    ensure => $ensure,
    value  => "${found} release${end_words}${where} ${lock_words}",
    path   => $puppet_conf,
  }

  if getvar('distlock::command_dir') =~ NotUndef {
    Class['distlock'] -> Class['distlock::run_lock']
  }
}
