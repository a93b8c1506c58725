# @summary The policy of a lock in etcd, which applies to everybody who acquires the lock, with any tool.
#
# It overrides the settings of nodes, plays and minions. A change applies at once, whether it allows more slots or fewer;
# present holders are not affected. Declare it on one node: the last one to apply it decides.
#
# @example
#   distlock::policy { 'percona_prod':
#     slots    => 3,
#     cooldown => '2m',
#     window   => 'Mon-Fri 22:00-04:00 Europe/Berlin',
#   }
#
# @param ensure
#   `present`: the policy is exactly what is named here. `absent`: the lock has none.
# @param lock_name
#   Name of the lock. Default: the title.
# @param slots
#   Number of simultaneous holders allowed.
# @param cooldown
#   Time that the lock stays taken after a success: seconds, or a text such as `2m`.
# @param window
#   Times outside of which nobody acquires the lock, such as `Mon-Fri 22:00-04:00 Europe/Berlin, !Sat`.
# @param expect
#   Time that a hold is expected to take, such as `20m`: after it, the hold is shown as OVERDUE.
# @param reason
#   Why this policy was set; shown to everybody who looks.
# @param owner
#   Who has set it, as others see it. Default: `puppet:` and the certname.
# @param config
#   Path of distlock's config file. Default: as for the class `distlock`, if included, else distlock's default file.
# @param program
#   The path of distlock-puppet. Default: where the class `distlock` installs it, else it is searched in `path`.
# @param environment
#   As for `exec`: `DISTLOCK_ENDPOINTS=...` says where the lock is.
# @param path
#   As for `exec`.
define distlock::policy (
  Enum['present', 'absent'] $ensure = 'present',
  Distlock::Name $lock_name = $title,
  Optional[Integer[1, 1000]] $slots = undef,
  Optional[Variant[Integer[1], String[1]]] $cooldown = undef,
  Optional[String[1]] $window = undef,
  Optional[Variant[Integer[1], String[1]]] $expect = undef,
  Optional[String[1]] $reason = undef,
  Optional[String[1]] $owner = undef,
  Optional[Distlock::Path] $config = undef,
  Optional[Distlock::Path] $program = undef,
  Optional[Variant[String, Array[String]]] $environment = undef,
  Variant[String[1], Array[String[1], 1]] $path = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'],
) {
  $fields = { 'slots' => $slots, 'cooldown' => $cooldown, 'window' => $window, 'expect' => $expect }
  $named = $fields.filter |$_, $value| { $value =~ NotUndef }
  if $ensure == 'present' and $named.empty {
    fail("distlock::policy '${title}': it needs at least one of slots, cooldown, window and expect")
  }
  if $ensure == 'absent' and !$named.empty {
    fail("distlock::policy '${title}': ensure => absent removes the whole policy: leave out ${named.keys.join(', ')}")
  }
  $config_file = $config ? {
    undef   => getvar('distlock::config_file'),
    default => $config,
  }
  $others = { 'certname' => getvar('trusted.certname'), 'reason' => $reason, 'id' => $owner, 'config' => $config_file }
  $absent = $ensure ? {
    'absent' => ['--absent'],
    default  => [],
  }
  $options = ($named + $others).filter |$_, $value| { $value =~ NotUndef }
  $words = $options.map |$option, $value| { "--${option}=${value}" }
  $call = [distlock::program($program), 'policy'] + $words + $absent + [$lock_name]

  exec { "distlock::policy: ${title}":
    provider    => 'distlock',
    command     => $call,
    unless      => [$call + ['--dry-run']],
    environment => $environment,
    path        => $path,
  }
  if getvar('distlock::command_dir') =~ NotUndef {
    Class['distlock'] -> Exec["distlock::policy: ${title}"]
  }
}
