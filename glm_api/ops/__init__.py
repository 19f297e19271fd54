"""Endpoints for operators and debugging: health, server state, tokenization and prompt templates."""
