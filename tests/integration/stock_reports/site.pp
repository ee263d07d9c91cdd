# Every way in which a resource can end, in one run. `$target` is a directory of the test's.
tag 'Site_Tag'
file { "${target}/written": ensure => file, content => "hé\n", mode => '0644' }
file { "${target}/audited": audit => [content, mode] }
file { "${target}/missing/x": ensure => file }
file { "${target}/source": source => '/nosuch' }
exec { '/bin/true': refreshonly => true, subscribe => File["${target}/written"] }
exec { '/bin/false': }
notify { 'skipped': require => Exec['/bin/false'] }
notify { 'ü ☃ "q" #{x}': tag => ['b', 'a'] }
notify { 'loud': loglevel => warning, message => "two\nlines", withpath => true }
notify { 'noop': noop => true }
notify { "title\nof lines: ": message => 'x' }
$close = inline_epp('<% 259.each |$i| { %>0123456789<% } %>')
notify { $close: message => 'close to the limit of the index' }
$over = inline_epp('<% 280.each |$i| { %>0123456789<% } %>')
notify { $over: message => 'over the limit of the index' }
define made($v) { notify { "made ${v}": } }
made { 'one two': v => 1 }
thing { 'a':
  list   => ['a', "b'\""],
  hash   => { 'x' => { 'y' => true } },
  number => 12,
  flag   => true,
  secret => Sensitive('hunter2'),
  broken => 'y',
}
schedule { 'never': period => never }
notify { 'scheduled': schedule => 'never' }
warning('a warning ü')
err('an error')
