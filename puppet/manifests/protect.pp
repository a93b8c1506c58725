# @summary A lock that is acquired right before a run changes one of the protected resources, and in no other run.
#
# In a run in which all of them are in sync, the lock is not acquired, and nothing is written to etcd. If it is refused,
# the protected resources that are out of sync fail, and so does what requires them; the rest of the catalog is applied.
# It is released once all of them have been applied. If one of them fails, it stays: see `until`.
#
# @example
#   distlock::protect { 'percona_prod':
#     resources => [Package['percona-server-server'], Service['mysql']],
#     reason    => 'Upgrade of Percona Server',
#     timeout   => 600,
#   }
#
# @param resources
#   The protected resources. A class or a defined type stands for all that it contains. A refresh of them (the restart of a
#   service) needs the lock too.
# @param lock_name
#   Name of the lock. Default: the title.
# @param lock_names
#   Several locks instead of `lock_name`, which are acquired together or not at all. The title is then any text.
#   Their order makes no difference.
# @param reason
#   Why the lock is taken; shown to everybody who looks or waits.
# @param timeout
#   Seconds to wait for the lock: 0 fails at once, -1 waits forever. Default: the setting in the environment or config file
#   of the node, else 0.
# @param owner
#   Default: `puppet:` and the certname. The same owner can enter its own lock again.
# @param until
#   `unlocked`: if a protected resource fails, the lock stays, even across reboots, so that no other node follows; a later
#   run of this node goes on with it, and releases it once all of them have been applied. `run_end`: it is released when
#   this run has ended, however it ended.
# @param ttl
#   With `until => run_end`: how many seconds the lock outlives the machine. Default: 60.
# @param on_loss
#   With `until => run_end`: `kill` ends the run if the lock is lost; `continue`, the default, writes a warning to syslog.
# @param slots
#   Number of simultaneous holders allowed; the same number everywhere.
# @param rank
#   Waiters with a lower rank are served first, and those with the same rank in the order of arrival. Default: 50.
# @param shared
#   Whether the lock is held together with any number of other shared holders, but with no exclusive one.
# @param window
#   Times outside of which the lock is not acquired, such as `Mon-Fri 22:00-04:00 Europe/Berlin, !Sat`. A policy of the lock
#   comes before it.
# @param expect
#   Time that the hold is expected to take, such as `20m`: after it, the hold is shown as OVERDUE.
# @param on_failure
#   What to do with the lock at the end of a run in which a protected resource has failed, or the gate was not green in
#   time, until an operator unlocks or thaws it: `keep` leaves it taken, also with `until => run_end`; `freeze` releases it,
#   and lets nobody acquire it, in any slot. Default: as `until` says.
# @param cooldown
#   Seconds that the lock stays taken after success, so that the node can settle before the next one begins.
# @param gate
#   Program and arguments that exit with 0 if the cluster is healthy. Until then the lock is neither acquired nor released.
#   No shell interprets them.
# @param gate_timeout
#   Seconds to wait for the gate before the lock is released; after that the lock is kept, and the resource fails.
# @param gate_every
#   Seconds between two runs of the gate.
# @param gate_for
#   Seconds for which the gate must have been green without interruption.
# @param config
#   Path of distlock's config file. Default: as for the class `distlock`, if included, else distlock's default file.
define distlock::protect (
  Array[Type[Resource], 1] $resources,
  Optional[Distlock::Name] $lock_name = undef,
  Optional[Array[Distlock::Name, 1]] $lock_names = undef,
  Optional[String[1]] $reason = undef,
  Optional[Distlock::Timeout] $timeout = undef,
  Optional[String[1]] $owner = undef,
  Enum['unlocked', 'run_end'] $until = 'unlocked',
  Optional[Distlock::Duration] $ttl = undef,
  Optional[Enum['continue', 'kill']] $on_loss = undef,
  Optional[Integer[1, 1000]] $slots = undef,
  Optional[Integer[0, 99]] $rank = undef,
  Optional[Boolean] $shared = undef,
  Optional[String[1]] $window = undef,
  Optional[Variant[Integer[1], String[1]]] $expect = undef,
  Optional[Enum['keep', 'freeze']] $on_failure = undef,
  Optional[Distlock::Duration] $cooldown = undef,
  Optional[Array[String[1], 1]] $gate = undef,
  Optional[Distlock::Duration] $gate_timeout = undef,
  Optional[Distlock::Duration] $gate_every = undef,
  Optional[Variant[Integer[0], Float[0.0], Distlock::Duration]] $gate_for = undef,
  Optional[Distlock::Path] $config = undef,
) {
  $config_file = $config ? {
    undef   => getvar('distlock::config_file'),
    default => $config,
  }

  if $lock_names != undef and $lock_name != undef {
    fail("distlock::protect { '${title}': } lock_name, lock_names: use one of the two")
  }
  $one_name = $lock_names ? {
    undef   => assert_type(Distlock::Name, $lock_name ? {
    undef   => $title,
    default => $lock_name,
  }),
    default => undef,
  }

  distlock_protect { $title:
    lock_name    => $one_name,
    lock_names   => $lock_names,
    resources    => $resources,
    reason       => $reason,
    timeout      => $timeout,
    owner        => $owner,
    until        => $until,
    ttl          => $ttl,
    on_loss      => $on_loss,
    slots        => $slots,
    rank         => $rank,
    shared       => $shared,
    window       => $window,
    expect       => $expect,
    on_failure   => $on_failure,
    cooldown     => $cooldown,
    config       => $config_file,
    gate         => $gate,
    gate_timeout => $gate_timeout,
    gate_every   => $gate_every,
    gate_for     => $gate_for,
    require      => $resources,
  }

  if getvar('distlock::command_dir') =~ NotUndef {
    Class['distlock'] -> $resources
  }
}
