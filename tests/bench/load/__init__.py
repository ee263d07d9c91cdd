"""Load for PuppetDB or for what stands before it: clients that cost little, commands, a fast upstream, meters."""
