# @summary Settings by name, with dashes or underscores. `undef` (`~` in Hiera) takes a setting out; a list is written with commas.
type Pdbclient::Settings = Hash[
  Pattern[/\A[a-z][a-z0-9_-]*\z/],
  Optional[Variant[Boolean, Numeric, Pattern[/\A[^\n\r]+\z/], Array[Pattern[/\A[^\n\r,]+\z/], 1]]],
]
