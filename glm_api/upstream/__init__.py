"""``GLM_BACKEND=openai``: this server in front of an engine elsewhere that has OpenAI's API already.

Keys, queue, logs, metrics and the error envelope are this server's; prompts, sampling and answers the engine's. Bodies
pass through but for the model's name.
"""
