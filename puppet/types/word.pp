# @summary A name that neither a shell nor puppet.conf reads as anything else.
#
# Puppet itself hands prerun_command, a string, to a shell where there is a need for one.
type Distlock::Word = Pattern[/\A(?!__)[A-Za-z0-9_.@%+:,=][A-Za-z0-9_.@%+:,=-]{0,199}\z/]
