"""Manifests with values that are no JSON or are secret, for the differential test of catalogs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["RICH_CASES", "ManifestCase"]


@dataclass(frozen=True)
class ManifestCase:
    """One manifest. `foreign` are other nodes' exported resources, `corrections` where we differ on purpose."""

    name: str
    manifest: str
    corrections: tuple[str, ...] = ()
    hiera: dict[str, Any] | None = None
    foreign: list[dict[str, Any]] = field(default_factory=list)
    job_id: int | str | None = None
    code_id: str | None = None

    def request(self) -> dict[str, Any]:
        return dict(vars(self))


OBJECTS = """
type Car = Object[{attributes => {'registration' => String, 'wheels' => {type => Integer, value => 4}}}]
type Names = Array[String]
"""

RICH_CASES = [
    ManifestCase(
        "sensitive_parameters",
        """
        notify { 's': message => Sensitive('pw'), loglevel => 'err' }
        file { '/secret': content => Sensitive('pw'), mode => '0600' }
        define secretive($pw, $user) { notify { "for ${user}": message => $pw } }
        secretive { 'x': pw => Sensitive({'a' => 'pw'}), user => 'me' }
        class holder($key) { notify { 'held': message => [1] } }
        class { 'holder': key => Sensitive('pw') }
        """,
    ),
    ManifestCase(
        "sensitive_namevar",
        "notify { 's': name => Sensitive('hunter2'), tag => 'x' }  file { 'f': path => Sensitive('/hunter2') }",
        ("a Sensitive namevar",),
    ),
    ManifestCase(
        "sensitive_alias_alone",
        "notify { 's': alias => Sensitive('hunter2'), name => 'n', tag => 'x' }",
        ("a Sensitive alias",),
    ),
    ManifestCase(
        "sensitive_alias",
        "notify { 's': alias => ['ok', Sensitive('hunter2')] }",
        ("a stable placeholder",),
    ),
    ManifestCase(
        "sensitive_within",
        """
        notify { 'l': message => ['a', Sensitive('hunter2'), {'k' => Sensitive(['hunter2'])}] }
        notify { 'h': message => {'a' => {'b' => [Sensitive('hunter2')]}} }
        """,
        ("a stable placeholder",),
    ),
    ManifestCase(
        "sensitive_in_objects",
        "notify { 'd': message => Deferred('new', [String, Sensitive('hunter2')]), tag => 'x' }",
        ("a Sensitive value in an object",),
    ),
    ManifestCase(
        "sensitive_keys",
        "notify { 'k': message => {Sensitive('hunter2') => 1, Sensitive('hunter3') => 2} }",
        ("a stable placeholder", "a Sensitive key in text"),
    ),
    ManifestCase(
        "rich_scalars",
        """
        notify { 'r': message => [/a\\/b/, /(?i:x)\\d/, default, Timestamp('2020-01-02T03:04:05.678 UTC'),
          Timespan('1-02:03:04.5'), SemVer('1.2.3-rc1+b'), SemVerRange('>=1.0.0 <2.0.0'), Binary('aGVsbG8='),
          URI('http://a/b?c=d'), File['/x'], Class['settings'], undef] }
        notify { 'regexp': message => /^x$/ }
        notify { 'default': message => default }
        notify { 'when': message => Timestamp('2024-02-29') }
        file { '/b': content => Binary('aGVsbG8=') }
        """,
    ),
    ManifestCase(
        "rich_hashes",
        """
        notify { 'h': message => {1 => 2, 'a' => undef, [1, 'x', undef, true, 1.5e20, 'q"#{1}', "t\\t\\u{1}"] => 3,
          default => 4, /x/ => 5, Timestamp('2020-01-01') => 6, {'k' => [1]} => 7, true => 8, 1.5 => 9, 'é' => 10,
          ['é', /r/, default, Sensitive('x')] => 11, Integer => 12, undef => 13, {2 => {3 => 4}} => 14} }
        notify { 'reserved': message => [{'__ptype' => 'x', 'b' => 1}, {'__pvalue' => {'c' => default}}] }
        """,
        ("a reserved key in text",),
    ),
    ManifestCase(
        "data_types",
        """
        notify { 't': message => [String, String[1], String[1,2], Integer, Integer[1], Integer[default,5],
          Float[1.0,2.0], Boolean, Array, Array[String], Array[String,1,2], Array[0,0], Hash, Hash[String,Integer],
          Hash[String,Integer,1], Optional[String], Optional['a'], NotUndef[String], Variant[String,Integer],
          Enum['a','b'], Enum["it's","a\\nb"],
          Enum['A',true], Pattern[/a/,/b\\/c/], Regexp[/x/], Regexp] }
        notify { 'u': message => [Struct[{'a'=>String, Optional['b']=>Integer, 'c'=>Optional[String],
          NotUndef['d']=>Optional[Any]}], Tuple[String,Integer], Tuple[String,Integer,1,5], Any, Undef, Scalar,
          Numeric, Type[String], Type, Callable, Callable[String,Integer], Callable[[String],Integer],
          Callable[String,Callable],
          Callable[0,0], Timestamp, Timestamp['2020-01-01','2021-01-01'], SemVer['>=1.0.0'], Collection[1,2],
          Iterable[String], Iterator[Integer], Default, Binary, URI, URI['http:'], Runtime['ruby','x'],
          Type[File['/x']], Type[Class['settings']]] }
        """,
    ),
    ManifestCase(
        "more_data_types",
        """
        notify { 'n': message => [ScalarData, Array[ScalarData], Init, Init[Integer, 16],
          Init[Timestamp, '2020', '%Y'], Optional[Init[Integer, 16]], Resource['file', '/x'], SemVerRange, Sensitive,
          Timespan,
          Timespan['1-00:00:00', '2-00:00:00'], Timestamp[default, '2021-01-01'], Float[default, 1.5], Float[1], Enum,
          Enum['a', false], Pattern, Optional, NotUndef, NotUndef['a'], Variant, Variant[Integer], Tuple,
          Tuple[Integer, 0], Tuple[String, 0, default], Struct, Iterable, Iterator, Collection, Collection[0],
          Hash[0, 0], Hash[Any, Any, 1, 2], Hash[Enum['a'], Array[Optional[Float]]], Array[Any], Array[Any, 1],
          Array[Integer[0, 255], 1, 5], Array[String, default, 5], Optional[Variant[String[1], Undef]], Type[Any],
          Type[Type[Integer]], String[0], String[default, 5], String[0, 0], Integer[0, 0], Integer[-5, default],
          Variant[Default, Regexp[/a/], Pattern['b']], Struct[{Optional['a b'] => Any}], SemVer['1.x', '2.x'],
          URI[{scheme => 'http'}], Regexp['a/b'], Runtime] }
        notify { 'callable': message => [Callable[0, 1], Callable[String, 1, default], Callable[[], String],
          Callable[[0, 0], String], Callable[[String, 1, default], Any], Callable[Any], Callable[Callable],
          Callable[0, 0, Callable], Callable[1, 2, Callable[0, 0]]] }
        notify { 'nameless': message => [Array[Object], Type[Object],
          Optional[Object[{attributes => {a => Integer}}]], Variant[Object, Integer], Struct[{a => Object}],
          Array[Object[{name => 'X'}]]] }
        notify { 'keys': message => { Integer[1] => 1, Optional['x'] => 2, File['/x'] => 3, ScalarData => 4,
          SemVer('1.0.0') => 5, Timespan('0-00:00:01.5') => 6, Binary('YQ==') => 7, URI('http://x') => 8,
          SemVerRange('1.x') => 9 } }
        """,
    ),
    ManifestCase(
        "nameless_objects",
        "notify { 'o': message => [Object, Object[{attributes => {a => Integer}}], {'a' => [Object]}] }",
        ("a nameless object type in text",),
    ),
    ManifestCase(
        "objects",
        OBJECTS
        + """
        notify { 'o': message => [Car('a'), Car('b', 3), Car, Names, Deferred, Array[Names]] }
        file { '/d': content => Deferred('inline_epp', ['<%= 1 %>', {'k' => [1, undef, 2.5, true, default]}]) }
        notify { 'q': message => Deferred('x', ["it's", "n\\n\\$x", 'back\\\\slash\\\\', "\\u{1}é", '$x', "\\n'\\"",
          Car('c'), /r\\/x/, Timestamp('2020-01-01'), URI('http://a'), Binary('aGVsbG8='), {3 => 4}, {}, [],
          Integer[1,2], File['/x'], Class['settings'], Deferred('$v')]) }
        """,
        ("an object type in text",),
    ),
    ManifestCase(
        "what_types_lose",
        "notify { 't': message => [Boolean[true], Boolean[false], Sensitive[String], Sensitive[Integer[1]]] }",
        ("what a type loses in the document",),
    ),
    ManifestCase(
        "plain_values",
        """
        notify { 'v': message => [1, -1, 0, 9223372036854775807, 1.0, -0.0, 1e16, 1e-7, 1.5e20, true, false, undef,
          '', ' ', '1', 'undef', [], {}, [[]], {'a' => {'b' => {'c' => [{'d' => undef}]}}}] }
        notify { 'undef': message => undef, withpath => true }
        notify { 'name undef': name => undef }
        notify { 'int': message => 5 }
        """,
    ),
]  # fmt: skip
