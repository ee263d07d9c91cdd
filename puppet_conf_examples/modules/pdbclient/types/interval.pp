# @summary A time span with its unit, as in 30s, 5m, 1h or 14d.
type Pdbclient::Interval = Pattern[/\A\d+(ms|s|m|h|d)\z/]
