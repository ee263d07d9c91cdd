# @summary Settings with one spelling of each name: pdbclient takes `report-ttl` and `report_ttl` for one setting.
# @api private
#
# @param settings
#   Settings as they were written. Of one that is there in both spellings, the later counts: of Hiera, that of the level
#   that comes first.
# @return [Pdbclient::Settings]
#   The same, with underscores.
function pdbclient::named(Pdbclient::Settings $settings) >> Pdbclient::Settings {
  $settings.reduce({}) |$named, $setting| { $named + { regsubst($setting[0], '-', '_', 'G') => $setting[1] } }
}
