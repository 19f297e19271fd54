"""``POST /completion``, llama-server's own endpoint for raw completions."""
