"""``GLM_BACKEND=openai``: this server in front of another that has OpenAI's API already, the upstream.

Keys, queue, logs, metrics and the error envelope are this server's; prompts, sampling and answers the upstream's.
Bodies pass through but for the model's name.
"""
