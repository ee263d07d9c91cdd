# @summary A value as HOCON has it: text in double quotes, which hide what else would mean something there.
# @api private
#
# @param value
#   A value of a setting.
# @return [String]
#   Its text.
function pdbclient::hocon(Variant[Boolean, Numeric, String, Array] $value) >> String {
  $value ? {
    Array   => "[${$value.map |$each| { pdbclient::hocon($each) }.join(', ')}]",
    String  => "\"${regsubst($value, '["\\\\]', '\\\\\0', 'G')}\"",
    default => "${value}", # lint:ignore:only_variable_string
  }
}
