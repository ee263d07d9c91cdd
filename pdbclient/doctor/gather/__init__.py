"""The facts of a host, as they are now: files, units, servers. Nothing here judges."""
