"""``POST /v1/embeddings``: vectors that stand for texts, with llama.cpp."""
