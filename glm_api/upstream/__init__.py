"""``GLM_BACKEND=openai``: this server in front of another server with OpenAI's API, the upstream.

This server is responsible for keys, queue, logs, metrics and the error envelope; the upstream for prompts, sampling and
answers. Bodies pass through; `relay` says what it changes in them.
"""
