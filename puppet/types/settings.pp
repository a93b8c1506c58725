# @summary Further keys of the config file.
type Distlock::Settings = Hash[
  Pattern[/\A[a-z][a-z0-9_]*\z/],
  Variant[String, Numeric, Boolean, Array[String]],
]
