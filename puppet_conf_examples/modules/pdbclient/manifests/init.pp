# @summary The program pdbclient itself, which the other classes of this module need and include.
#
# @example The package comes from a repository that the host has
#   include pdbclient
#
# @example It is in a virtual environment that something else makes
#   class { 'pdbclient':
#     manage_package => false,
#     command        => '/opt/pdbclient/bin/pdbclient',
#   }
#
# @param ensure
#   `absent` takes away what this module's classes brought. It is the default of every other class's `ensure`.
# @param manage_package
#   Whether the package is managed here; without it, the program has to be there already.
# @param package_name
#   The name of the package.
# @param package_ensure
#   `installed`, `latest`, or a version.
# @param command
#   The program.
class pdbclient (
  Enum['present', 'absent'] $ensure,
  Boolean $manage_package,
  String[1] $package_name,
  String[1] $package_ensure,
  Pdbclient::Path $command,
) {
  if $manage_package {
    $package = $ensure ? {
      'absent' => 'absent',
      default  => $package_ensure,
    }
    package { $package_name:
      ensure => $package,
    }
  }
}
