"""Real Puppet on this machine, configured with the files of puppet_conf_examples/, for the end-to-end tests."""
