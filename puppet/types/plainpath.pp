# @summary An absolute path that neither a shell nor puppet.conf reads as anything else.
type Distlock::Plainpath = Pattern[/\A\/[A-Za-z0-9_.\/@%+:,=-]*\z/]
