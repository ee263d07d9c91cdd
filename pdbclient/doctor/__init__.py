"""`pdbclient doctor`: whether a host is set up well, and what to do where it is not."""
