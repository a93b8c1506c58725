# @summary The name of a lock: no `/`, no control characters, neither `__` nor `-` at its start, at most 255 bytes.
type Distlock::Name = Pattern[/\A(?!__|-)[^\/[:cntrl:]]{1,255}\z/]
