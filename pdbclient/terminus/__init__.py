"""What the stock terminus computes before it sends, in Python: from Puppet's own objects to payloads of commands."""
