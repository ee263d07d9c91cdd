"""Manifests for the differential test of catalogs: what Puppet's language can put into a catalog."""

from __future__ import annotations

from tests.integration.catalog_rich_manifests import RICH_CASES, ManifestCase

__all__ = ["CASES", "ManifestCase"]


GENERATED = """
define row(Integer $n, Array $after = []) {
  notify { "${title}-first": message => "row ${n}", tag => ['generated', "n${n}"] }
  -> notify { "${title}-second": message => $n }
  file { "/srv/${title}/": ensure => directory, require => $after }
}
Integer[1, 60].each |$n| {
  row { "row${n}": n => $n, after => if $n > 1 { [Row["row${$n - 1}"]] } else { [] } }
}
"""

CASES = [
    ManifestCase("empty", ""),
    ManifestCase(
        "worked_example",
        """
        file { '/tmp/foo/': ensure => directory, mode => '0755', before => Notify['b'] }
        notify { 'b': name => 'msg-b', tag => ['z', 'a'] }
        exec { 'x': command => '/bin/true', alias => ['beta', 'alpha'], subscribe => File['/tmp/foo'],
                    notify => [Notify['b'], Notify['msg-b']] }
        """,
        job_id=7,
        code_id="abc123",
    ),
    ManifestCase(
        "defined_types",
        """
        define inner($what = 'x', $more = {}) { notify { "in ${title}": message => [$what, $more] } }
        define outer::wrapper(Integer $n) { inner { "${title}/1": what => $n }
                                            inner { "${title}/2": more => {'a' => [1]} } }
        outer::wrapper { 'w': n => 5 }
        outer::wrapper { ['v 1', 'v[2]']: n => 6, require => Outer::Wrapper['w'] }
        notify { 'last': require => [Inner['w/1'], Outer::Wrapper['v[2]']] }
        """,
    ),
    ManifestCase(
        "classes",
        """
        class base($x = 1) { notify { "base ${x}": } }
        class base::child($y = 'd') inherits base { notify { 'child': require => Class['base'] } }
        class other { contain base  notify { 'o': } Class['base'] -> Notify['o'] }
        class { 'base::child': y => [1, 2] }
        include other
        Class['other'] -> Class['base::child']
        """,
    ),
    ManifestCase(
        "stages",
        """
        stage { 'pre': before => Stage['main'] }
        stage { 'post': require => Stage['main'] }
        class early { notify { 'early': } }
        class late { notify { 'late': } }
        class { 'early': stage => 'pre' }
        class { 'late': stage => 'post' }
        """,
    ),
    ManifestCase(
        "virtual_and_realised",
        """
        @notify { 'never': require => Notify['z'] }
        @notify { 'collected': require => Notify['z'], tag => 'pick' }
        @notify { 'realised': before => Notify['z'] }
        notify { 'z': }
        Notify <| tag == 'pick' |> { message => 'overridden' }
        realize Notify['realised']
        """,
    ),
    ManifestCase(
        "exported_not_collected",
        """
        @@notify { 'elsewhere': require => Notify['only there'], tag => 'mon' }
        @@file { '/etc/mon.d/': ensure => directory, notify => Service['mon'], tag => ['b', 'a'] }
        @@exec { 'there': command => '/bin/true', alias => ['q', 'p'] }
        notify { 'here': }
        """,
    ),
    ManifestCase(
        "exported_with_what_it_needs",
        """
        @@notify { 'elsewhere': require => Notify['here'] }
        @@notify { 'also elsewhere': before => Notify['elsewhere'], subscribe => Notify['here'] }
        notify { 'here': }
        """,
        ("exported resources in an unfiltered document",),
    ),
    ManifestCase(
        "refused_uncollected",
        "@@notify { 'x': } notify { 'y': require => Notify['x'] }",
        ("exported resources in an unfiltered document",),
    ),
    ManifestCase(
        "exported_and_collected_here",
        """
        @@notify { 'mine': require => Notify['here'], tag => 'mon' }
        notify { 'here': }
        notify { 'after': require => Notify['mine'] }
        Notify <<| tag == 'mon' |>>
        """,
    ),
    ManifestCase(
        "collected_from_others",
        """
        notify { 'here': }
        Notify <<| |>> -> Notify['here']
        File <<| |>>
        """,
        foreign=[
            {"type": "Notify", "title": "theirs", "parameters": {"message": "hello", "name": "their name"}},
            {"type": "File", "title": "/etc/theirs/", "parameters": {"ensure": "directory", "path": "/etc/theirs"}},
        ],
    ),
    ManifestCase(
        "arrows",
        """
        notify { ['a', 'b', 'c', 'd', 'e']: }
        Notify['a'] -> Notify['b'] ~> Notify['c']
        Notify['e'] <- Notify['d'] <~ Notify['a']
        [Notify['a'], Notify['b']] -> [Notify['d'], Notify['e']]
        """,
    ),
    ManifestCase(
        "all_metaparameters",
        """
        notify { 'a': before => Notify['b'], notify => [Notify['c'], Notify['d']] }
        notify { 'b': tag => 'single', audit => ['message', 'ensure'] }
        notify { 'c': require => [Notify['b'], [Notify['a'], [Notify['a']]]], audit => 'all', loglevel => 'err' }
        notify { 'd': subscribe => Notify['a'], require => Notify['a'], noop => true, schedule => 'daily' }
        notify { 'e': require => [], before => undef, subscribe => [undef, Notify['d']], tag => [] }
        schedule { 'daily': period => daily, range => '2 - 4' }
        """,
    ),
    ManifestCase(
        "the_same_edge_twice",
        """
        notify { 'a': before => [Notify['b'], Notify['b']] }
        notify { 'b': name => 'bee', require => Notify['a'] }
        notify { 'c': require => [Notify['b'], Notify['bee'], 'Notify[b]'] }
        """,
    ),
    ManifestCase(
        "aliases",
        """
        notify { 'a': alias => 'first' }
        notify { 'b': alias => ['second', 'third'], name => 'zeta' }
        notify { 'c': alias => [], name => 'sea' }
        notify { 'd': alias => [['nested', ['deep']]], name => '' }
        notify { 'e': alias => 5, name => 'e' }
        notify { 'f': alias => ['f', 'dup', 'dup'], name => 'dup' }
        user { 'u': alias => 'the user', name => 'root' }
        notify { 'last': require => [Notify['first'], Notify['third'], Notify['zeta'], Notify['deep'], Notify['dup'],
                                     User['root'], User['the user']] }
        """,
    ),
    ManifestCase(
        "alias_of_a_composite_type",
        """
        package { 'p': name => 'apache2', alias => ['web', 'server'] }
        package { 'q': alias => 'one' }
        package { 'r': name => 'gem', provider => 'gem' }
        notify { 'x': require => [Package['web'], Package['server'], Package['one'], Package['p']] }
        """,
    ),
    ManifestCase(
        "exec_is_not_isomorphic",
        """
        exec { 'one': command => '/bin/true' }
        exec { 'two': command => '/bin/true', require => Exec['one'] }
        exec { '/bin/false': alias => 'f' }
        tidy { 't': path => '/tmp/x' }
        tidy { 's': path => '/tmp/x', require => [Tidy['t'], Exec['f']] }
        """,
    ),
    ManifestCase(
        "file_slashes",
        """
        file { '/a/': ensure => directory }
        file { '/a/b': ensure => file, require => File['/a'] }
        file { '/c': ensure => directory, before => [File['/a/'], File['/a///']] }
        file { 'named': path => '/named', require => File['/c//'] }
        file { 'win': path => 'C:/win' }
        notify { 'n': require => [File['/named'], File['/named/'], File['named'], File['C:/win']] }
        """,
    ),
    ManifestCase(
        "root_directory",
        """
        file { '/': ensure => directory }
        file { '/x': require => File['/'] }
        """,
        ("the root directory",),
    ),
    ManifestCase(
        "root_directory_by_path",
        """
        file { 'root': path => '/', ensure => directory }
        notify { 'x': subscribe => File['/'] }
        """,
        ("the root directory",),
    ),
    ManifestCase(
        "composite_by_name",
        """
        package { 'foo': name => 'bar' }
        package { 'gem': name => 'bar', provider => 'gem' }
        notify { 'x': require => Package['bar'] }
        """,
        ("composite namevars by name",),
    ),
    ManifestCase(
        "directory_with_another_path",
        "file { '/p/': path => '/q' } notify { 'x': require => File['/p/'] }",
        ("a File's own title",),
    ),
    ManifestCase(
        "nested_aliases_of_a_composite_type",
        "package { 'p': alias => [['a', ['b']]] } notify { 'x': require => Package['b'] }",
        ("nested aliases of a composite type",),
    ),
    ManifestCase(
        "titles",
        """
        notify { ["line\\nbreak", 'br[ack]et', 'quote\\'s', 'ünïcode → ☃', "tab\\t", ' space ', 'a::b',
                  'UPPER', '😀']: }
        notify { 'n': require => [Notify["line\\nbreak"], Notify['br[ack]et'], Notify['ünïcode → ☃'], Notify['😀']] }
        notify { "x]\\n[y": require => Notify[' space '] }
        notify { 'm': before => Notify["x]\\n[y"] }
        """,
    ),
    ManifestCase(
        "tags",
        """
        tag 'topscope'
        class tagged { tag 'inside', 'More::Than'  notify { 'n': tag => ['Z', 'a', 'a::b', 'c-d', 'e.f'] } }
        include tagged
        notify { 'plain': }
        """,
    ),
    ManifestCase(
        "defaults_and_overrides",
        """
        Notify { loglevel => 'err', tag => 'defaulted' }
        File { mode => '0644' }
        notify { 'd': }
        notify { 'e': loglevel => 'info' }
        file { '/f': }
        class parent { file { '/g': owner => 'root', mode => '0600' } }
        class child inherits parent { File['/g'] { mode +> '0640', owner => 'me' } }
        include child
        File <| title == '/f' |> { owner => 'nobody' }
        notify { 'star': * => {'message' => 'm', 'noop' => false} }
        notify { default: withpath => true; 'x1': ; 'x2': message => 'y' }
        """,
    ),
    ManifestCase(
        "created_resources",
        """
        create_resources('notify', {'one' => {'message' => 'm'}, 'two' => {'require' => 'Notify[one]'}},
                         {'tag' => 'cr'})
        create_resources('@@notify', {'exported' => {'require' => 'Notify[nowhere]'}})
        ensure_packages_not_here()
        function ensure_packages_not_here() { notify { 'from a function': before => Notify['one'] } }
        """,
    ),
    ManifestCase(
        "lookups",
        """
        class looked($a, $b = lookup('plain'), $c = lookup('nothing', {default_value => 1})) {
          notify { 'a': message => [$a, $b, $c, lookup('plain'), lookup('deep.key')] }
        }
        include looked
        """,
        hiera={"looked::a": 1, "plain": "p", "deep": {"key": [1]}},
    ),
    ManifestCase(
        "control_and_broken_text",
        r"""
        notify { "c\u{7f}\u{85}\u{200b}":
          message => {["\u{7f}\u{85}\u{200b}\u{2028}\u{e000}"] => "\r\n\u{0}"} }
        """,
    ),
    *RICH_CASES,
    ManifestCase("generated", GENERATED),
    ManifestCase(
        "generated_wide",
        "Integer[1, 150].each |$n| { notify { \"n${n}\": name => \"name ${n}\", require => "
        'if $n > 1 { Notify["name ${$n - 1}"] } else { [] } } }',
    ),
]  # fmt: skip
