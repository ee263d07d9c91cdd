# @summary The URL of a PuppetDB or of a gateway: https, a host, and best a port, without which it means 443.
type Pdbclient::Url = Pattern[/\Ahttps:\/\/[^\s\/,;@?#"'\\]+\/?\z/]
