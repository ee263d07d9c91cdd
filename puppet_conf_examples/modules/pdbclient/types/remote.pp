# @summary A PuppetDB to pull from, and how often.
type Pdbclient::Remote = Struct[{ server_url => Pdbclient::Url, interval => Pdbclient::Interval }]
