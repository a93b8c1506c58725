# @summary A time in seconds, or with units: 90, 1.5, '10m', '1d', '1h30m'.
type Distlock::Duration = Variant[Integer[1], Float[0.001], Pattern[/\A\d+(\.\d+)?[smhd]?\z/, /\A(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+s)?\z/]]
