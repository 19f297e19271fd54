"""CORS: ``GLM_CORS_ORIGINS`` lists the origins whose pages may call the server, by default none; never with cookies."""

from __future__ import annotations

from flask import Flask
from flask_cors import CORS

from config import Settings

# The response headers that the SDKs of OpenAI and Anthropic read.
EXPOSED = ["x-request-id", "request-id", "openai-processing-ms", "Retry-After", "x-should-retry"]
HOURS = 3600


def register(app: Flask, settings: Settings) -> None:
    """Let the pages of the configured origins call ``app``."""
    if settings.cors_origins:
        CORS(
            app,
            origins=list(settings.cors_origins),
            methods=["GET", "POST", "DELETE"],
            expose_headers=EXPOSED,
            supports_credentials=False,
            send_wildcard=True,
            max_age=2 * HOURS,
        )
