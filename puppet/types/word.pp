# @summary A name without characters that a shell or puppet.conf treats specially.
#
# Puppet passes prerun_command, a string, to a shell if it contains anything that needs one.
type Distlock::Word = Pattern[/\A(?!__)[A-Za-z0-9_.@%+:,=][A-Za-z0-9_.@%+:,=-]{0,199}\z/]
