# @summary An absolute path.
type Pdbclient::Path = Pattern[/\A\/[^\n\r]*\z/]
