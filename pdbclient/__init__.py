"""pdbclient: high availability for open-source PuppetDB."""
