# @summary The distlock-puppet to be called: the one given, or where the class `distlock` installs it, else its name.
#
# @param given
#   Its path, if it was given.
#
# @return [String] its path, or its name
function distlock::program(Optional[Distlock::Path] $given) >> String {
  $command_dir = getvar('distlock::command_dir')
  if $given =~ NotUndef {
    $given
  } elsif $command_dir =~ NotUndef and getvar('distlock::install') == 'venv' {
    "${command_dir}/distlock-puppet"
  } else {
    'distlock-puppet'
  }
}
