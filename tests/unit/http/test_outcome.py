"""The truth table of one attempt."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdbclient.errors import (
    Ambiguous,
    Busy,
    DeadlineExceeded,
    Forbidden,
    IncompleteResponse,
    LocalFault,
    Misrouted,
    NoPlace,
    NotFound,
    NotSent,
    OutOfTime,
    Rejected,
    ServerError,
    TlsError,
    TransportError,
    Unresponsive,
)
from pdbclient.http.outcome import (
    ACCEPTED,
    DASHBOARD,
    Attempt,
    Effect,
    Kind,
    Operation,
    Outcome,
    Sent,
    answer_of_puppetdb,
    effect,
    effect_of_break,
    effect_of_check,
    error_for_status,
    is_about_one_query,
    is_final,
    retry_after,
)

from .fake import endpoints

URL = "https://a:8081"
HARD, DOUBT, SUCCESS = Effect(hard=True), Effect(soft=True, own_kind=True, in_doubt=True), Effect()
HARD_OWN, NOBODY = Effect(hard=True, own_kind=True), Effect(nothing=True)
MINUTE = Effect(open_for=60.0)
COMMAND, QUERY = Operation.COMMAND, Operation.QUERY


_LATER = Effect(open_for=7.0, own_kind=True)
_BOTH_IN_DOUBT = Effect(soft=True, in_doubt=True)
_MINUTE_IN_DOUBT = Effect(open_for=60.0, in_doubt=True)
_MINUTE_OWN = Effect(open_for=60.0, own_kind=True, in_doubt=True)

# (error, kind, sent, effect of a command, effect of a query, final)
TABLE = [
    (NotSent(URL, "refused"), Kind.NOT_SENT, Sent.NO, HARD, HARD, False),
    (TlsError(URL, "expired"), Kind.TLS, Sent.NO, MINUTE, MINUTE, False),
    (Ambiguous(URL, "reset"), Kind.AMBIGUOUS, Sent.UNKNOWN, _BOTH_IN_DOUBT, DOUBT, False),
    (TransportError(URL, "other"), Kind.AMBIGUOUS, Sent.UNKNOWN, _BOTH_IN_DOUBT, DOUBT, False),
    (DeadlineExceeded(URL, "slow"), Kind.TIMEOUT, Sent.UNKNOWN, HARD_OWN, DOUBT, False),
    (Unresponsive(URL, "dead"), Kind.UNRESPONSIVE, Sent.UNKNOWN, HARD, HARD, False),
    (OutOfTime(URL, "late"), Kind.OUT_OF_TIME, Sent.UNKNOWN, NOBODY, NOBODY, False),
    (NoPlace(URL, "full"), Kind.NO_PLACE, Sent.NO, NOBODY, NOBODY, False),
    (LocalFault(URL, "no descriptor"), Kind.LOCAL, Sent.NO, NOBODY, NOBODY, False),
    (IncompleteResponse(URL, "half"), Kind.INCOMPLETE, Sent.YES, DOUBT, DOUBT, False),
    (Rejected(URL, 400, "bad"), Kind.REJECTED, Sent.YES, SUCCESS, SUCCESS, True),
    (NotFound(URL, 404, "none"), Kind.NOT_FOUND, Sent.YES, SUCCESS, SUCCESS, True),
    (Misrouted(URL, 404, "html"), Kind.MISROUTED, Sent.YES, HARD, Effect(hard=True, own_kind=True), False),
    (Forbidden(URL, 403, "no"), Kind.FORBIDDEN, Sent.YES, _MINUTE_IN_DOUBT, _MINUTE_OWN, False),
    (Busy(URL, 503, "later", 7.0), Kind.BUSY, Sent.YES, Effect(open_for=7.0), _LATER, False),
    (ServerError(URL, 500, "oops"), Kind.SERVER_ERROR, Sent.UNKNOWN, DOUBT, DOUBT, False),
]


@pytest.mark.parametrize(
    ("error", "kind", "sent", "command", "query", "final"), TABLE, ids=lambda v: getattr(type(v), "__name__", "")
)
def test_every_error_has_its_row(
    error: TransportError | ServerError, kind: Kind, sent: Sent, command: Effect, query: Effect, final: bool
) -> None:
    outcome = Outcome.of(error)
    assert (outcome.kind, outcome.sent, outcome.detail) == (kind, sent, error.reason)
    assert outcome.status == getattr(error, "status", None)
    assert outcome.retry_after == getattr(error, "retry_after", None)
    assert (effect(outcome, COMMAND), effect(outcome, QUERY)) == (command, query)
    assert is_final(outcome) is final


@given(st.sampled_from(list(Kind)), st.none() | st.integers(100, 599), st.none() | st.floats(1, 60))
def test_nothing_that_a_query_meets_at_a_server_that_lives_keeps_commands_away(
    kind: Kind, status: int | None, retry_after: float | None
) -> None:
    met = effect(Outcome(kind, Sent.YES, status, retry_after), QUERY)
    found_dead = kind in (Kind.NOT_SENT, Kind.TLS, Kind.UNRESPONSIVE)
    assert met.success or met.own_kind or met.nothing or found_dead


def test_what_a_running_puppetdb_does_not_have_is_an_answer() -> None:
    met = Misrouted(URL, 404, "Not Found")
    met.headers, met.body = {"Content-Type": "text/html"}, b"Not Found"
    answer = answer_of_puppetdb(met)
    assert isinstance(answer, NotFound)
    assert (answer.status, answer.body, answer.headers) == (404, met.body, met.headers)
    assert is_final(Outcome.of(answer))
    assert isinstance(answer_of_puppetdb(Misrouted(URL, 302, "")), Rejected)


@pytest.mark.parametrize(
    ("error", "about_it"),
    [
        (ServerError(URL, 500, "oops"), True),
        (Rejected(URL, 400, "bad"), True),
        (NotFound(URL, 404, "none"), True),
        (Misrouted(URL, 404, "html"), True),
        (Busy(URL, 503, "later", 7.0), False),
        (Forbidden(URL, 403, "no"), False),
        (NotSent(URL, "refused"), False),
        (DeadlineExceeded(URL, "slow"), False),
        (IncompleteResponse(URL, "half"), False),
    ],
)
def test_which_errors_speak_of_one_query_alone(error: TransportError | ServerError, about_it: bool) -> None:
    assert is_about_one_query(error) is about_it


def test_the_table_has_every_kind() -> None:
    assert {row[1] for row in TABLE} | {Kind.ACCEPTED, Kind.SKIPPED} == set(Kind)


def test_an_answer_is_a_success_and_final() -> None:
    assert effect(ACCEPTED, COMMAND) == effect(ACCEPTED, QUERY) == SUCCESS
    assert SUCCESS.success
    assert is_final(ACCEPTED)


def test_a_skipped_server_ends_nothing() -> None:
    assert not is_final(Outcome(Kind.SKIPPED, Sent.NO))


@pytest.mark.parametrize("event", [HARD, DOUBT, MINUTE, NOBODY])
def test_a_failure_is_no_success(event: Effect) -> None:
    assert not event.success


def test_busy_without_a_time_means_5_s() -> None:
    assert effect(Outcome(Kind.BUSY, Sent.YES, 503), COMMAND) == Effect(open_for=5.0)


# -- statuses

REJECTED = {400, 402, 405, 406, 407, 409, 410, 411, 412, 413, 414, 415, 416, 422, 431, 451, 499}


@pytest.mark.parametrize("operation", Operation)
def test_every_status_has_one_meaning(operation: Operation) -> None:
    met: dict[type, set[int]] = {}
    for status in (*range(100, 600), 999):
        error = error_for_status(URL, status, {}, b"why", operation)
        met.setdefault(type(error), set()).add(status)
        if error is not None:
            assert (error.status, error.endpoint) == (status, URL)
    assert met[type(None)] == {200}
    assert met[Forbidden] == {401, 403}
    assert met[Misrouted] == {404, 301, 302, 303, 307, 308}
    assert met[Busy] == {429, 503}
    assert met[Rejected] >= REJECTED
    assert met[Rejected] == set(range(400, 500)) - {401, 403, 404, 408, 429}
    assert met[ServerError] >= {100, 201, 204, 300, 408, 500, 502, 504, 999}
    assert met.keys() == {type(None), Forbidden, Misrouted, Busy, Rejected, ServerError}


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        (QUERY, b'{"error": "No information is known about node x"}', NotFound),
        (QUERY, b' \r\n{"error": 1}', NotFound),
        (QUERY, b"", Misrouted),
        (QUERY, b"<html>", Misrouted),
        (QUERY, b"[]", Misrouted),
        (QUERY, b"Not Found", Misrouted),
        (COMMAND, b'{"error": "x"}', Misrouted),
    ],
)
def test_only_puppetdbs_own_404_is_an_answer(operation: Operation, body: bytes, expected: type[ServerError]) -> None:
    assert type(error_for_status(URL, 404, {}, body, operation)) is expected


@pytest.mark.parametrize("operation", Operation)
def test_the_redirect_to_the_dashboard_is_puppetdbs_word_for_no_such_address(operation: Operation) -> None:
    for location in (DASHBOARD, f"{URL}{DASHBOARD}"):
        error = error_for_status(URL, 302, {"Location": location}, b"", operation)
        assert type(error) is Rejected
    for status, location in ((302, f"{DASHBOARD}x"), (301, DASHBOARD)):
        assert type(error_for_status(URL, status, {"Location": location}, b"", operation)) is Misrouted


# -- Retry-After

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 5),
        ({"Retry-After": ""}, 5),
        ({"Retry-After": "5"}, 5),
        ({"Retry-After": " 20 "}, 20),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": "60"}, 60),
        ({"Retry-After": "61"}, 60),
        ({"Retry-After": "86400"}, 60),
        ({"Retry-After": "9" * 5000}, 60),
        ({"Retry-After": "-5"}, 5),
        ({"Retry-After": "1.5"}, 5),
        ({"Retry-After": "٣"}, 5),
        ({"Retry-After": "soon"}, 5),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": DATE}, 30),
        ({"Retry-After": "Wed, 21 Oct 2026 09:28:30 +0200", "Date": DATE}, 30),
        ({"Retry-After": "Wed, 21 Oct 2026 07:00:00 GMT", "Date": DATE}, 1),
        ({"Retry-After": "Thu, 22 Oct 2026 07:28:00 GMT", "Date": DATE}, 60),
        ({"Retry-After": DATE}, 5),
        ({"Retry-After": DATE, "Date": "yesterday"}, 5),
        # One side without a zone cannot be compared.
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 -0000", "Date": DATE}, 5),
        ({"Retry-After": f"Wed, 21 Oct {10**20} 07:28:30 GMT", "Date": DATE}, 5),
    ],
)
def test_retry_after_is_clamped_or_guessed(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == seconds
    error = error_for_status(URL, 503, headers, b"", COMMAND)
    assert isinstance(error, Busy)
    assert error.retry_after == seconds


@given(st.text(max_size=60), st.sampled_from(["", DATE, "0", "Mon, 01 Jan 0001 00:00:00 +9959"]))
def test_no_header_breaks_the_parser(text: str, date: str) -> None:
    assert 1 <= retry_after({"Retry-After": text, "Date": date}) <= 60


@given(st.integers(0, 10**10), st.integers(-100, 100))
def test_a_date_is_measured_against_the_servers_own_clock(now: int, seconds: int) -> None:
    headers = {"Retry-After": formatdate(now + seconds, usegmt=True), "Date": formatdate(now, usegmt=True)}
    assert retry_after(headers) == min(max(seconds, 1), 60)


# -- the reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error": "Supported command versions are 5"}', "Supported command versions are 5"),
        (b'{"error": " two\\n lines\\t"}', "two lines"),
        (b'{"error": {"kind": 1}}', '{"error": {"kind": 1}}'),
        (b'{"kind": "not-acceptable", "msg": "must accept JSON"}', "must accept JSON"),
        (b'{"error": null, "msg": "why"}', "why"),
        (b'["x"]', '["x"]'),
        (b"PQL parse error at line 1, column 5", "PQL parse error at line 1, column 5"),
        (b"caf\xe9", "caf�"),
        (b"\n <html><title>400</title>", "the request itself is bad"),
        (b"", "the request itself is bad"),
        (b'"error"', '"error"'),
    ],
)
def test_the_reason_is_what_the_server_says(body: bytes, reason: str) -> None:
    error = error_for_status(URL, 400, {}, body, COMMAND)
    assert isinstance(error, Rejected)
    assert error.reason == reason
    assert str(error) == f"{URL}: HTTP 400: {reason}"


@pytest.mark.parametrize("body", [b"x" * 10**6, b"[" * 10**6, b'{"error": "' + b"y" * 10**6 + b'"}', b"9" * 10**6])
def test_the_reason_is_one_short_line(body: bytes) -> None:
    error = error_for_status(URL, 500, {}, body, COMMAND)
    assert error is not None
    assert 0 < len(error.reason) <= 300


@pytest.mark.parametrize("status", [100, 204, 302, 400, 401, 404, 408, 429, 500, 503])
def test_an_answer_without_a_body_has_a_reason_too(status: int) -> None:
    error = error_for_status(URL, status, {}, b"", COMMAND)
    assert error is not None
    assert error.reason


@given(st.binary(max_size=200), st.integers(100, 999), st.sampled_from(Operation))
def test_no_body_breaks_the_table(body: bytes, status: int, operation: Operation) -> None:
    error = error_for_status(URL, status, {}, body, operation)
    assert (error is None) == (status == 200)
    if error is not None:
        assert "\n" not in error.reason


def test_an_attempt_reads_as_one_line() -> None:
    a, _ = endpoints("ab")
    busy = Attempt(a, Outcome(Kind.BUSY, Sent.YES, 503, 5.0, "in maintenance"), 1.234)
    assert str(busy) == "https://a:8081: busy HTTP 503: in maintenance (1.23 s)"
    refused = Attempt(a, Outcome(Kind.NOT_SENT, Sent.NO, detail="Connection refused"))
    assert str(refused) == "https://a:8081: not sent: Connection refused (0.00 s)"


# -- answers that break off when some of it was passed on


@pytest.mark.parametrize("error", [row[0] for row in TABLE], ids=lambda error: type(error).__name__)
def test_an_answer_that_breaks_off_on_its_way_shuts_out_no_last_server_unless_it_is_dead(
    error: TransportError | ServerError,
) -> None:
    outcome = Outcome.of(error)
    alone, beside_others = effect_of_break(outcome, others=False), effect_of_break(outcome, others=True)
    as_ever = effect(outcome, QUERY)
    assert beside_others == as_ever
    assert alone == (NOBODY if as_ever.in_doubt else as_ever)


# -- health checks


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotSent(URL, "refused"), HARD),
        (Ambiguous(URL, "reset"), HARD),
        (DeadlineExceeded(URL, "frozen"), HARD),
        (TlsError(URL, "expired"), MINUTE),
        (Misrouted(URL, 404, "html"), Effect(hard=True, own_kind=True)),
        (Forbidden(URL, 403, "no"), Effect(hard=True, own_kind=True)),
        (Busy(URL, 503, "its database is down", 20.0), Effect(hard=True, own_kind=True)),
        (ServerError(URL, 500, "oops"), Effect(hard=True, own_kind=True)),
        (ServerError(URL, 200, "its state is 'starting'"), Effect(hard=True, own_kind=True)),
        (IncompleteResponse(URL, "half"), Effect(hard=True, own_kind=True)),
        (Rejected(URL, 400, "what?"), Effect(hard=True, own_kind=True)),
        (NotFound(URL, 404, "none"), Effect(hard=True, own_kind=True)),
    ],
)
def test_a_failed_check_shuts_a_server_out_at_once_for_commands_only_when_it_cannot_be_reached(
    error: TransportError | ServerError, expected: Effect
) -> None:
    assert effect_of_check(Outcome.of(error)) == expected
    assert not expected.success
