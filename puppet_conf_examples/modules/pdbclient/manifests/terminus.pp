# @summary Puppet's own configuration: its stock terminus asks the gateway first, then the PuppetDBs.
#
# In puppet.conf, routes.yaml and puppetdb.conf single settings are changed, by `pdbclient terminus setup`; whatever
# else stands there stays. Before a change each file is copied beside itself. `ensure => absent` gives the files back
# as they were before the first change.
#
# @example A Puppet Server with the gateway, its journal, and two PuppetDBs
#   class { 'pdbclient::terminus':
#     server_urls    => ['https://primary.example.com:8081', 'https://replica.example.com:8081'],
#     journal        => '/var/lib/pdbclient/journal.db',
#     puppet_service => 'puppetserver',
#   }
#   include pdbclient::gateway
#
# @param server_urls
#   The PuppetDBs, in the order in which they are asked; the gateway is no part of it.
# @param ensure
#   `absent` restores the files.
# @param target
#   `server` for a Puppet Server, `apply` for a host that runs `puppet apply`.
# @param gateway
#   `true`: the gateway is at this host's certname, port 8085. Or its URL, whose host the certificate must carry; without
#   a port, it is 8085.
#   `false`: Puppet asks the PuppetDBs themselves.
# @param journal
#   Where the gateway keeps accepted commands. `undef` leaves the setting as it is; to turn the journal off, take it out
#   with `settings`.
# @param settings
#   Further settings of puppetdb.conf, under the names of its two sections: `main` (what Puppet itself reads) and
#   `pdbclient`. `undef` takes a setting out; one that is not named is left alone.
# @param confdir
#   Where puppet.conf is.
# @param puppet_service
#   The title of a service in the catalog that reads these files when it starts, as Puppet Server does: it is restarted
#   when a change concerns it.
class pdbclient::terminus (
  Array[Pdbclient::Url, 1] $server_urls,
  Enum['server', 'apply'] $target,
  Variant[Boolean, Pdbclient::Url] $gateway,
  Struct[{ Optional['main'] => Pdbclient::Settings, Optional['pdbclient'] => Pdbclient::Settings }] $settings,
  Pdbclient::Path $confdir,
  Enum['present', 'absent'] $ensure = $pdbclient::ensure,
  Optional[Pdbclient::Journal] $journal = undef,
  Optional[String[1]] $puppet_service = undef,
) inherits pdbclient {
  $setup = [$pdbclient::command, 'terminus', 'setup', '--confdir', $confdir]

  if $ensure == 'present' {
    $gateway_options = $gateway ? {
      true    => ['--gateway-url', "https://${trusted['certname']}:8085"],
      false   => ['--no-gateway'],
      default => ['--gateway-url', $gateway],
    }
    $given = { 'main' => {}, 'pdbclient' => {} } + $settings
    $own = $journal ? {
      undef   => $given['pdbclient'],
      default => $given['pdbclient'] + { 'journal' => $journal },
    }
    $puppets = shellquote(
      $setup, '--for', $target, '--server-urls', $server_urls.join(','), $gateway_options,
      pdbclient::options('main', $given['main']),
    )

    # Where the program is yet to come, in a run without effect, all is yet to be done.
    $is_there = "test -x ${shellquote($pdbclient::command)}"

    exec { 'pdbclient: terminus settings':
      command  => "${puppets} --write",
      unless   => "${is_there} && ${puppets}",
      provider => shell,
      path     => $facts['path'],
    }

    unless $own.empty {
      # By themselves: for these, Puppet Server need not be restarted.
      $gateways = "${puppets} ${shellquote(pdbclient::options('pdbclient', $own))}"

      exec { 'pdbclient: gateway settings':
        command  => "${gateways} --write",
        unless   => "${is_there} && ${gateways}",
        provider => shell,
        path     => $facts['path'],
        require  => Exec['pdbclient: terminus settings'],
      }
    }

    if $puppet_service {
      # It is to find the gateway there.
      Service <| tag == 'pdbclient::gateway' |> -> Service[$puppet_service]
    }
    Class['pdbclient'] -> Class['pdbclient::terminus']
  } else {
    $recorded = "ls ${shellquote($confdir)}/pdbclient-setup-*.json"

    # Each change has been recorded: the last one is undone first.
    exec { 'pdbclient: terminus settings':
      command  => "while ${recorded}; do ${shellquote($setup)} --undo || exit; done",
      onlyif   => $recorded,
      provider => shell,
      path     => $facts['path'],
    }
    Class['pdbclient::terminus'] -> Class['pdbclient']
  }

  if $puppet_service {
    Exec['pdbclient: terminus settings'] ~> Service[$puppet_service]
  }
}
