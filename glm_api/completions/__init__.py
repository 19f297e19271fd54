"""``POST /v1/completions``: text completions, without chat formatting."""
