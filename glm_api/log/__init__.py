"""Logging: write lines to standard error, and describe exceptions in them."""
