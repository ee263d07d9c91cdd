# @summary The reconciler beside a PuppetDB: its configuration and its service.
#
# @example The primary, which pulls from the replica
#   class { 'pdbclient::sync':
#     remotes  => [{ server_url => 'https://replica.example.com:8081', interval => '5m' }],
#     settings => { 'report-ttl' => '14d', 'node-purge-ttl' => '14d' },
#   }
#
# @param remotes
#   The PuppetDBs that are pulled from, and how often.
# @param local_url
#   The PuppetDB on this host; by default at its certname, port 8081.
# @param settings
#   Further settings, as in `report-ttl`, with dashes or underscores; they come before what the other parameters say.
#   `undef` leaves one out.
# @param state_dir
#   Where the reconciler keeps what it knows of earlier passes; its user must be able to write there.
# @param ssl_ca_cert
#   The certificate of Puppet's CA. With another CA, name its `ssl_crl`, too.
# @param ssl_cert
#   The certificate that both PuppetDBs let in. By default PuppetDB's own copy, which its user can read.
# @param ssl_key
#   The key of that certificate.
# @param ssl_crl
#   The CA's revocation list, by default Puppet's own, which its agent fetches. `settings => { 'ssl_crl' => undef }` checks
#   none.
# @param config_file
#   The reconciler's configuration. One that was there before is kept beside it.
# @param ensure
#   `absent` stops and disables the service, and restores the configuration that was there before, if any.
# @param service_name
#   The name of the service, which the package brings.
# @param reload_command
#   What makes a running reconciler read its configuration again, and does nothing when none is running.
class pdbclient::sync (
  Array[Pdbclient::Remote, 1] $remotes,
  Pdbclient::Settings $settings,
  Pdbclient::Path $state_dir,
  Pdbclient::Path $ssl_ca_cert,
  Pdbclient::Path $ssl_cert,
  Pdbclient::Path $ssl_key,
  Pdbclient::Path $ssl_crl,
  Pdbclient::Path $config_file,
  String[1] $service_name,
  String[1] $reload_command,
  Enum['present', 'absent'] $ensure = $pdbclient::ensure,
  Optional[Pdbclient::Url] $local_url = undef,
) inherits pdbclient {
  $file = shellquote($config_file)
  $former = shellquote("${config_file}.before-pdbclient")
  $is_ours = "grep -q '^# Managed by Puppet, module pdbclient' ${file}"

  if $ensure == 'present' {
    $own = {
      'local_url'   => $local_url,
      'state_dir'   => $state_dir,
      'ssl_ca_cert' => $ssl_ca_cert,
      'ssl_cert'    => $ssl_cert,
      'ssl_key'     => $ssl_key,
      'ssl_crl'     => $ssl_crl,
    }

    exec { 'pdbclient: keep sync.conf':
      command  => "cp -p ${file} ${former}",
      onlyif   => "test -e ${file}",
      unless   => $is_ours,
      provider => shell,
      path     => $facts['path'],
    }
    -> file { $config_file:
      ensure       => file,
      mode         => '0644',
      content      => epp('pdbclient/sync.conf.epp', {
          'remotes'  => $remotes,
          'settings' => $own + pdbclient::named($settings),
      }),
      validate_cmd => "${shellquote($pdbclient::command)} config check --syntax-only --sync %",
    }
    # Before the service: one that is only to be started reads the new configuration anyway.
    ~> exec { 'pdbclient: reload the reconciler':
      command     => $reload_command,
      provider    => shell,
      path        => $facts['path'],
      refreshonly => true,
    }
    -> service { $service_name:
      ensure => running,
      enable => true,
    }
    Class['pdbclient'] -> Class['pdbclient::sync']
  } else {
    service { $service_name:
      ensure => stopped,
      enable => false,
    }
    -> exec { 'pdbclient: restore sync.conf':
      command  => "if test -e ${former}; then mv ${former} ${file}; else rm ${file}; fi",
      onlyif   => $is_ours,
      provider => shell,
      path     => $facts['path'],
    }
    Class['pdbclient::sync'] -> Class['pdbclient']
  }
}
