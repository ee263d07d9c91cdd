# @summary Where the journal is: an absolute path, or a PostgreSQL database by URL.
#
# A URL has no password here: puppetdb.conf is readable by everybody. PostgreSQL finds it in its password file.
type Pdbclient::Journal = Variant[Pdbclient::Path, Pattern[/\Apostgres(ql)?:\/\/([^\s:@\/]+@)?[^\s@]+\z/]]
