"""What broke an attempt, as the error that says how far it came and whose fault that is.

No I/O of its own, but for a look at our certificate when a server refuses it: few servers say why.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from pdbclient.config.model import TlsFiles
from pdbclient.errors import (
    Ambiguous,
    Busy,
    DeadlineExceeded,
    IncompleteResponse,
    LocalFault,
    NotSent,
    OutOfTime,
    ServerError,
    TlsError,
    TransportError,
    Unresponsive,
)
from pdbclient.http.connection import TooLate, Trace
from pdbclient.http.outcome import PLAIN_HTTP, RETRY_AFTER_DEFAULT, Kind, Outcome

__all__ = ["broken_answer", "no_answer"]

# OpenSSL's verdicts that come from a revocation list: none for this CA, none that is good or current, revoked.
CRL_VERDICTS = (3, 5, 8, 11, 12, 15, 16, 23, 33, 35, 36, 44, 54)

# What OpenSSL, of one version or another, makes of an answer that is not TLS.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})

# This machine has none left: descriptors (of the process, of the system), memory, buffers, ports.
_LOCAL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})


def no_answer(
    url: str, tls: TlsFiles, error: Exception, trace: Trace, outer: BaseException | None
) -> TransportError | ServerError:
    """What `error`, met before any answer of the server at `url`, stands for: how far the attempt came decides.

    `outer` is what the caller itself was handling when the attempt began, if anything: Python hangs it to whatever is
    raised meanwhile, and it is no part of this.
    """
    if (check := trace.waiting.given_up) is not None:
        return _given_up(url, check, trace.sending)
    causes = list(_causes(error, outer))
    for cause in causes:
        if _is_local(cause):
            return LocalFault(url, f"this machine could not ask it: {_words(causes)}")
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TlsError(url, f"its certificate is not accepted: {_verdict(tls, cause)}")
        if isinstance(cause, ssl.SSLError) and "_ALERT_" in (cause.reason or ""):
            return TlsError(url, f"it refuses our {_ours(tls)}: {cause.reason}")
        if isinstance(cause, ssl.SSLError) and cause.reason in _NOT_TLS and not trace.sending:
            return NotSent(url, f"no connection: {PLAIN_HTTP}")
    timed_out = _timed_out(causes)
    if not trace.sending:
        if timed_out and trace.hurried:
            return OutOfTime(url, "no connection in the time that was left, which is less than the connect timeout")
        if timed_out:
            return NotSent(url, "no connection (TCP and TLS) within the connect timeout")
        return NotSent(url, f"no connection: {_words(causes)}")
    if timed_out:
        return DeadlineExceeded(url, "no answer within the read timeout or the deadline")
    return Ambiguous(url, f"the connection broke before an answer: {_words(causes)}")


def broken_answer(
    url: str, error: Exception, check: Outcome | None, outer: BaseException | None
) -> TransportError | ServerError:
    """What `error`, met in the middle of an answer, stands for. `check`: what its server was given up for."""
    if check is not None:
        return _given_up(url, check, sending=True)
    causes = list(_causes(error, outer))
    if any(isinstance(cause, TooLate) for cause in causes):
        return OutOfTime(url, "the time for the whole answer was over before more of it was asked for")
    if _timed_out(causes):
        return DeadlineExceeded(url, "the answer stopped, or took longer than allowed")
    return IncompleteResponse(url, f"the answer broke off: {_words(causes)}")


def _given_up(url: str, check: Outcome, sending: bool) -> TransportError | ServerError:
    """Why a request was not waited for any longer, whose server's status met `check`."""
    if check.kind is Kind.BUSY:
        return Busy(url, check.status or 503, check.detail, check.retry_after or RETRY_AFTER_DEFAULT)
    if not sending:
        return NotSent(url, f"not sent: it answers no request, nor the question about its health: {check.detail}")
    return Unresponsive(url, f"no answer, and none about its health: {check.detail}")


def _ours(tls: TlsFiles) -> str:
    """What we showed, and what is wrong with it where that can be seen from here: few servers say it."""
    if tls.cert is None:
        return "connection without a certificate"
    # Imported here: what reads certificates takes longer to load than all the rest, and is hardly ever wanted.
    from pdbclient.http.tls_check import own_fault

    why = own_fault(tls, datetime.now(UTC))
    return f"certificate {tls.cert}" if why is None else f"certificate {tls.cert}, which {why}"


def _verdict(tls: TlsFiles, error: ssl.SSLCertVerificationError) -> str:
    """OpenSSL's words, and the file that they follow from."""
    judged_by = f"ssl_crl {tls.crl}" if error.verify_code in CRL_VERDICTS else f"ssl_ca_cert {tls.ca}"
    return f"{error.verify_message} ({judged_by})"


def _causes(error: BaseException, outer: BaseException | None) -> Iterator[BaseException]:
    """The error and what it wraps, outermost first: causes, contexts, and what urllib3 hides in arguments."""
    seen: list[BaseException] = [] if outer is None else [outer]
    todo: list[Any] = [error]
    while todo:
        current = todo.pop(0)
        if isinstance(current, BaseException) and current not in seen:
            seen.append(current)
            yield current
            todo += [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]


def _is_local(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _LOCAL)


def _timed_out(causes: Sequence[BaseException]) -> bool:
    # Not urllib3's own class: its "connection refused" is a kind of it.
    return any(isinstance(cause, TimeoutError) for cause in causes)


def _words(causes: Sequence[BaseException]) -> str:
    """The innermost cause in a few words: `Connection refused`, not three classes with an address each."""
    last = causes[-1]
    return (getattr(last, "strerror", None) or str(last) or type(last).__name__)[:200]
