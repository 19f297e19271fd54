"""``POST /v1/chat/completions``: chat completions."""
