# @summary An absolute path.
type Distlock::Path = Pattern[/\A\/[^[:cntrl:]]*\z/]
