"""What is written to the log: how a line gets out, and what it tells of an exception."""
