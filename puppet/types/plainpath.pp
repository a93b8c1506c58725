# @summary An absolute path without characters that a shell or puppet.conf treats specially.
type Distlock::Plainpath = Pattern[/\A\/[A-Za-z0-9_.\/@%+:,=-]*\z/]
