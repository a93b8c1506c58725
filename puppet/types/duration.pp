# @summary A time in seconds, or with a unit: 90, 1.5, '10m', '2h', '1d'.
type Distlock::Duration = Variant[Integer[1], Float[0.001], Pattern[/\A\d+(\.\d+)?[smhd]?\z/]]
