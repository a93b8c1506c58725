# @summary Runs a command under a lock, as `exec` does without one.
#
# The command runs only while this node holds the lock, which is acquired right before it and released right after it.
# While another node holds the lock, the resource fails and names the holder (or waits, see `lock_timeout`); the next run
# tries again. After a wait the run's log names the previous holder and the time spent. No shell interprets the command.
#
# `unless`, `onlyif`, `creates` and `refreshonly` are checked first: a node that has nothing to do never acquires the lock.
#
# @example
#   distlock::exec { 'upgrade':
#     lock_name => 'percona_prod',
#     reason    => 'Upgrade RPMs',
#     command   => ['/usr/bin/yum', '--assumeyes', 'upgrade', 'percona-server-server'],
#     unless    => [['/usr/local/bin/is-upgraded']],
#     timeout   => 3600,
#   }
#
# @param command
#   Program and arguments.
# @param lock_name
#   Name of the lock. Default: the title.
# @param lock_names
#   Several locks instead of `lock_name`, which are acquired together or not at all. The title is then any text.
#   Their order makes no difference.
# @param lock_timeout
#   Seconds to wait for the lock: 0 fails at once, -1 waits forever. Default: the setting in the environment or config file
#   of the node, else 0.
# @param reason
#   Why the lock is taken; shown to everybody who looks or waits.
# @param ttl
#   Lease the lock for this many seconds: it expires with its holder, and a command whose lock is lost is killed. Without
#   a ttl the lock stays after a crash, until an operator unlocks it.
# @param on_loss
#   What to do with the command if the lock is lost: `kill`, the default with a ttl, or `continue`.
# @param slots
#   Number of simultaneous holders allowed; the same number everywhere.
# @param shared
#   Whether the lock is held together with any number of other shared holders, but with no exclusive one.
# @param window
#   Times outside of which the lock is not acquired, such as `Mon-Fri 22:00-04:00 Europe/Berlin, !Sat`. A policy of the lock
#   comes before it.
# @param expect
#   Time that the hold is expected to take, such as `20m`: after it, the hold is shown as OVERDUE.
# @param rank
#   Waiters with a lower rank are served first, and those with the same rank in the order of arrival. Default: 50.
# @param on_failure
#   What to do with the lock if the command fails. `keep` leaves it taken until an operator unlocks it. `freeze` releases
#   it, and nobody can acquire it, in any slot, until an operator thaws it.
# @param cooldown
#   Seconds that the lock stays taken after success.
# @param beat
#   Time between two signs of life of distlock beside a lock without a ttl, such as `15`, from which `distlock --show` tells
#   anywhere whether it is alive. It lets nobody in.
# @param gate
#   Program and arguments that exit with 0 if the cluster is healthy. Until then the lock is neither acquired nor released.
#   No shell interprets them.
# @param gate_timeout
#   Seconds to wait for the gate before the lock is released; after that the lock is kept, and the resource fails.
# @param gate_every
#   Seconds between two runs of the gate.
# @param gate_for
#   Seconds for which the gate must have been green without interruption.
# @param owner
#   Default: `puppet:` and the certname. The same owner can enter its own lock again.
# @param config
#   Path of distlock's config file. Default: as for the class `distlock`, if included, else distlock's default file.
# @param program
#   The path of distlock-puppet. Default: where the class `distlock` installs it, else it is searched in `path`.
# @param timeout
#   Seconds that the command may run, not counting the wait for the lock; 0 for no limit. After that it is ended, with
#   everything that it has started, and the exit code is 124.
# @param unless
#   As for `exec`.
# @param onlyif
#   As for `exec`.
# @param creates
#   As for `exec`.
# @param refreshonly
#   As for `exec`.
# @param logoutput
#   As for `exec`.
# @param environment
#   As for `exec`. distlock-puppet gets it too: `DISTLOCK_ENDPOINTS=...` says where the lock is.
# @param cwd
#   As for `exec`.
# @param user
#   As for `exec`. distlock-puppet runs as this user too, who must be able to read the config file.
# @param group
#   As for `exec`.
# @param umask
#   As for `exec`.
# @param path
#   As for `exec`.
# @param returns
#   As for `exec`: exit codes that count as success. The documentation of distlock-puppet lists its own.
# @param tries
#   As for `exec`. Every try acquires the lock anew.
# @param try_sleep
#   As for `exec`.
define distlock::exec (
  Array[String, 1] $command,
  Optional[Distlock::Name] $lock_name = undef,
  Optional[Array[Distlock::Name, 1]] $lock_names = undef,
  Optional[Distlock::Timeout] $lock_timeout = undef,
  Optional[String[1]] $reason = undef,
  Optional[Distlock::Duration] $ttl = undef,
  Optional[Enum['continue', 'kill']] $on_loss = undef,
  Optional[Integer[1, 1000]] $slots = undef,
  Optional[Boolean] $shared = undef,
  Optional[String[1]] $window = undef,
  Optional[Variant[Integer[1], String[1]]] $expect = undef,
  Optional[Integer[0, 99]] $rank = undef,
  Optional[Enum['release', 'keep', 'freeze']] $on_failure = undef,
  Optional[Distlock::Duration] $cooldown = undef,
  Optional[Distlock::Duration] $beat = undef,
  Optional[Array[String[1], 1]] $gate = undef,
  Optional[Distlock::Duration] $gate_timeout = undef,
  Optional[Distlock::Duration] $gate_every = undef,
  Optional[Variant[Integer[0], Float[0.0], Distlock::Duration]] $gate_for = undef,
  Optional[String[1]] $owner = undef,
  Optional[Distlock::Path] $config = undef,
  Optional[Distlock::Path] $program = undef,
  Variant[Integer[0], Float[0.0], Distlock::Duration] $timeout = 300,
  Optional[Variant[String[1], Array[Variant[String, Array[String]]]]] $unless = undef,
  Optional[Variant[String[1], Array[Variant[String, Array[String]]]]] $onlyif = undef,
  Optional[Variant[String[1], Array[String[1]]]] $creates = undef,
  Optional[Boolean] $refreshonly = undef,
  Optional[Variant[Boolean, Enum['true', 'false', 'on_failure']]] $logoutput = undef,
  Optional[Variant[String, Array[String]]] $environment = undef,
  Optional[Distlock::Path] $cwd = undef,
  Optional[Variant[String[1], Integer[0]]] $user = undef,
  Optional[Variant[String[1], Integer[0]]] $group = undef,
  Optional[String[1]] $umask = undef,
  Variant[String[1], Array[String[1], 1]] $path = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'],
  Optional[Variant[Integer, String[1], Array[Variant[Integer, String[1]]]]] $returns = undef,
  Optional[Integer[1]] $tries = undef,
  Optional[Variant[Integer[0], Float[0.0]]] $try_sleep = undef,
) {
  $config_file = $config ? {
    undef   => getvar('distlock::config_file'),
    default => $config,
  }

  # Quoted for the shell that reads it, so that it takes every word as it is.
  $gate_words = $gate ? {
    undef   => undef,
    default => join($gate.map |$word| { "'${regsubst($word, "'", "'\\\\''", 'G')}'" }, ' '),
  }

  # One lock is named by an argument, several by options.
  if $lock_names != undef and $lock_name != undef {
    fail("distlock::exec { '${title}': } lock_name, lock_names: use one of the two")
  }
  $lock_words = $lock_names ? {
    undef   => [assert_type(Distlock::Name, $lock_name ? {
    undef   => $title,
    default => $lock_name,
  })],
    default => $lock_names.map |$name| { "--lock-name=${name}" },
  }

  $options = {
    'certname'        => getvar('trusted.certname'),
    'command-timeout' => $timeout,
    'timeout'         => $lock_timeout,
    'reason'          => $reason,
    'ttl'             => $ttl,
    'on-loss'         => $on_loss,
    'slots'           => $slots,
    'shared'          => $shared,
    'window'          => $window,
    'expect'          => $expect,
    'rank'            => $rank,
    'on-failure'      => $on_failure,
    'cooldown'        => $cooldown,
    'beat'            => $beat,
    'id'              => $owner,
    'config'          => $config_file,
    'gate'            => $gate_words,
    'gate-timeout'    => $gate_timeout,
    'gate-every'      => $gate_every,
    'gate-for'        => $gate_for,
  }
  $words = $options.filter |$_, $value| { $value =~ NotUndef }.map |$option, $value| { "--${option}=${value}" }

  exec { "distlock: ${title}":
    provider    => 'distlock',
    command     => [distlock::program($program), 'exec'] + $words + $lock_words + ['--'] + $command,
    unless      => $unless,
    onlyif      => $onlyif,
    creates     => $creates,
    refreshonly => $refreshonly,
    logoutput   => $logoutput,
    environment => $environment,
    cwd         => $cwd,
    user        => $user,
    group       => $group,
    umask       => $umask,
    path        => $path,
    returns     => $returns,
    tries       => $tries,
    try_sleep   => $try_sleep,
    timeout     => 0,
  }

  if getvar('distlock::command_dir') =~ NotUndef {
    Class['distlock'] -> Exec["distlock: ${title}"]
  }
}
