"""Logging: how a line gets to standard error, and what it tells of an exception."""
