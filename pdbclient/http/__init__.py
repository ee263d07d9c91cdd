"""The shared HTTP layer: one truth table, one memory per server, one way to read an answer.

`outcome`, `breaker`, `route`, `staleness`, `stream` and `json_completeness` are pure; `tls`, `session` and `failover`
do the I/O.
"""
