# @summary Seconds to wait for a lock: 0 fails at once, a negative number waits for ever.
type Distlock::Timeout = Variant[Integer, Float]
