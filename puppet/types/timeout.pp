# @summary Seconds to wait for a lock, or with a unit as 10m or 2h: 0 fails at once, a negative number waits forever.
type Distlock::Timeout = Variant[Integer, Float, Pattern[/\A-?\d+(\.\d+)?[smhd]?\z/]]
