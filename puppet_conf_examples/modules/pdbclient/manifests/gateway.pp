# @summary The gateway beside Puppet: its service, which is reloaded, not restarted, when its configuration changes.
#
# Its configuration is puppetdb.conf: see `pdbclient::terminus`.
#
# @example
#   include pdbclient::terminus
#   include pdbclient::gateway
#
# @param ensure
#   `absent` stops the service and disables it. The journal stays where it is.
# @param service_name
#   The name of the service, which the package brings.
# @param reload_command
#   What makes a running gateway read its configuration again, and does nothing when none is running.
class pdbclient::gateway (
  String[1] $service_name,
  String[1] $reload_command,
  Enum['present', 'absent'] $ensure = $pdbclient::ensure,
) inherits pdbclient {
  if $ensure == 'present' {
    # Before the service: one that is only to be started reads the new configuration anyway.
    exec { 'pdbclient: reload the gateway':
      command     => $reload_command,
      provider    => shell,
      path        => $facts['path'],
      refreshonly => true,
    }
    -> service { $service_name:
      ensure => running,
      enable => true,
    }
    Exec <| tag == 'pdbclient::terminus' |> ~> Exec['pdbclient: reload the gateway']
    Class['pdbclient'] -> Class['pdbclient::gateway']
  } else {
    service { $service_name:
      ensure => stopped,
      enable => false,
    }
    Exec <| tag == 'pdbclient::terminus' |> -> Service[$service_name]
    Class['pdbclient::gateway'] -> Class['pdbclient']
  }
}
