# @summary The URL of a PuppetDB or of a gateway: https, a host, and a port.
#
# Without a port it is 443 among `server_urls`, as to Puppet itself, 8081 to the reconciler, and 8085 of a gateway.
type Pdbclient::Url = Pattern[/\Ahttps:\/\/[^\s\/,;@?#"'\\]+\/?\z/]
