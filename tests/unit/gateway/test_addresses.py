"""Where a request goes by its address. That the refusals are a PuppetDB's: `test_gateway_parity`."""

from __future__ import annotations

import pytest

from pdbclient.gateway.addresses import NOT_FOUND, Goal, Refusal, goal

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "FOO"]


def refused(method: str, path: str) -> Refusal:
    told = goal(method, path)
    assert isinstance(told, Refusal), told
    return told


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/pdb/cmd/v1", Goal.COMMAND),
        ("/pdb/cmd", Goal.NO_COMMAND),
        ("/pdb/cmd/", Goal.NO_COMMAND),
        ("/pdb/cmd/v1/", Goal.NO_COMMAND),
        ("/pdb/cmd/v2", Goal.NO_COMMAND),
        ("/pdb/cmd//v1", Goal.NO_COMMAND),
        ("/pdb/meta/v1/version", Goal.SERVER),
        ("/pdb/meta/v1/nope", Goal.SERVER),
        ("/pdbclient/v1/report", Goal.REPORT),
        ("/pdbclient/v1/metrics", Goal.METRICS),
    ],
)
def test_what_heeds_no_method(method: str, path: str, where: Goal) -> None:
    assert goal(method, path) is where


@pytest.mark.parametrize("path", ["/pdb/query/v4", "/pdb/query/v4/", "/pdb/query/v4/nodes", "/pdb/query/v4/a%2Fb;x"])
def test_queries_are_got_and_posted(path: str) -> None:
    for method in METHODS:
        if method in ("GET", "POST"):
            assert goal(method, path) is Goal.SERVER
        else:
            assert refused(method, path) == Refusal(400, "PuppetDB queries must be made via GET/POST")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/status/v1/services", {"GET"}),
        ("/status/v1/services/puppetdb-status", {"GET"}),
        ("/status/v1/simple", {"GET"}),
        ("/metrics/v2", {"GET", "POST"}),
        ("/metrics/v2/list", {"GET", "POST"}),
    ],
)
def test_a_method_that_puppetdb_forbids_is_forbidden(path: str, methods: set[str]) -> None:
    for method in METHODS:
        if method in methods:
            assert goal(method, path) is Goal.SERVER
        else:
            told = refused(method, path)
            assert (told.status, told.body) == (403, f"Forbidden request: {path} (method :{method.lower()})\n")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", "/status", 403), ("POST", "/status/", 403), ("GET", "/status/v2", 403), ("GET", "/status;x", 403)),
        *(("GET", "/status/v1", 404), ("GET", "/status/v1/x", 404), ("PUT", "/status/v1/x", 403)),
        *(("GET", "/statusx", 404), ("GET", "/metrics", 404), ("PUT", "/metrics/v1", 404), ("GET", "/foo", 404)),
        *(("GET", "*", 404), ("GET", "https://localhost/pdb/query/v4/nodes", 404), ("HEAD", "/", 404)),
        *(("POST", "/", 404), ("DELETE", "/", 404), ("GET", "//pdb/query/v4", 404), ("GET", "/pdbx", 404)),
    ],
)
def test_what_is_outside_of_pdb(method: str, path: str, status: int) -> None:
    assert refused(method, path).status == status


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path",
    [
        *("/pdb/x", "/pdb/ext/v1", "/pdb/cmdx", "/pdb/query", "/pdb/query/v5/nodes", "/pdb/query/v4x", "/pdb/meta"),
        *("/pdb/meta/v1", "/pdb//query/v4/nodes", "/pdb/sync/v1", "/pdb/admins", "/pdb/dashboards"),
        *("/pdb/query/v4/../../x", "/pdb/query/v4/%2e%2E/x", "/pdb/query/v4/a%2f..%2fb", "/pdb/query/v4/..%3b/x"),
        *("/pdb/query/v4/./nodes", "/pdb/meta/v1/../../admin/v1/archive", "/pdb/cmd/../cmd/v1"),
    ],
)
def test_an_unknown_address_below_pdb_is_not_found(method: str, path: str) -> None:
    assert refused(method, path) == NOT_FOUND


@pytest.mark.parametrize("path", ["/pdb/query/v1", "/pdb/query/v2/nodes", "/pdb/query/v3x"])
def test_a_retired_version_says_so(path: str) -> None:
    told = refused("GET", path)
    assert (told.status, told.body) == (404, f"The {path[11:13]} API has been retired; please use v4")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path",
    [
        *("/pdb/query/v4/..;/..;/admin/v1/summary-stats", "/pdb/query/v4/.;x=1/nodes", "/..;/pdb/query/v4/nodes"),
        *(
            "/pdb/query/v4/%2e%2e;/x",
            "/pdb/query/v4/.%2E;a/x",
            "/status/v1/services/..;/x",
            "/metrics/v2/..;a=b/list",
        ),
        *("/pdb/cmd/v1/..;/v1", "/pdb/meta/v1/..;"),
    ],
)
def test_a_way_up_with_parameters_is_refused_as_by_jetty(method: str, path: str) -> None:
    assert refused(method, path).status == 400


@pytest.mark.parametrize(
    ("path", "what"),
    [
        *(("/", "the dashboard"), ("/pdb", "the dashboard"), ("/pdb/", "the dashboard")),
        *(("/pdb/dashboard", "the dashboard"), ("/pdb/dashboard/index.html", "the dashboard")),
        *(("/pdb/admin", "/pdb/admin"), ("/pdb/admin/v1/summary-stats", "/pdb/admin")),
    ],
)
def test_what_is_not_passed_on_is_said_in_one_sentence(path: str, what: str) -> None:
    told = refused("GET", path)
    assert (told.status, told.content_type) == (404, "text/plain")
    assert told.body.startswith(f"The gateway does not pass on {what}, which ")
    assert told.body.endswith("PuppetDB itself.\n")
    assert told.body.count("\n") == 1
