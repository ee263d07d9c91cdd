# @summary Settings of one section of puppetdb.conf, as options of `pdbclient terminus setup`.
# @api private
#
# @param section
#   `main` or `pdbclient`.
# @param settings
#   What to set there, or to take out.
# @return [Array[String]]
#   The words of a command line.
function pdbclient::options(Enum['main', 'pdbclient'] $section, Pdbclient::Settings $settings) >> Array[String] {
  pdbclient::named($settings).map |$name, $value| {
    if $value =~ Undef {
      ['--unset', "${section}.${name}"]
    } else {
      ['--set', "${section}.${name}=${[$value].flatten.join(',')}"]
    }
  }.flatten
}
