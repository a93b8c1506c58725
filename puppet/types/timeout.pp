# @summary Seconds to wait for a lock: 0 fails at once, a negative number waits forever.
type Distlock::Timeout = Variant[Integer, Float]
