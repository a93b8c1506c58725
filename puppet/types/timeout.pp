# @summary Seconds to wait for a lock, or with units as 10m or 1h30m: 0 fails at once, a negative number waits forever.
type Distlock::Timeout = Variant[Integer, Float, Pattern[/\A-?\d+(\.\d+)?[smhd]?\z/, /\A(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+s)?\z/]]
