"""What operators see: log formatters and the logging configuration."""
