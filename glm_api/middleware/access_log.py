"""The access log: one line a request, written after its last byte (for a stream, at its end).

This module chooses the content of a line. ``gunicorn.conf.py`` configures the form (text or JSON, time stamp,
escaping), for gunicorn's own lines too, and `glm_api.log.lines` formats them. Prompts and answers are logged only with
``GLM_LOG_PROMPTS``, keys never.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from flask import Flask, g, request

from config import Settings
from glm_api.middleware.request_record import RequestRecord, request_over
from glm_api.server.connections import MONITORING_PATHS

logger = logging.getLogger("glm_api.request")

LONGEST_PATH = 200

# The first names and indices of a parameter's path. What follows may be a key of a schema, which a client may choose.
_NAMES = re.compile(r"[a-z_]{1,40}(\.([a-z_]{1,40}|\d{1,6})(?![^.])){0,2}(?![^.])")
_PLAIN = re.compile(r"[!#-<>-~]+")


def register(app: Flask, settings: Settings) -> None:
    """Log every request of ``app``."""
    describe = describe_briefly if settings.log_format == "json" else describe_fully

    def log(_: Flask, record: RequestRecord) -> None:
        # Monitoring requests these every few seconds.
        level = logging.DEBUG if record.route in MONITORING_PATHS else logging.INFO
        if logger.isEnabledFor(level):
            fields = log_fields(record)
            logger.log(level, "%s", describe(record, fields), extra=fields)

    request_over.connect(log, app, weak=False)

    if settings.log_prompts:

        @app.before_request
        def keep_prompt_and_answer() -> None:
            g.record.body = request.get_data()
            g.record.answer = []


def log_fields(record: RequestRecord) -> dict[str, Any]:
    """Return the fields of the line; times are in milliseconds. Fields that a request does not have are left out."""
    started = record.first_token_at
    fields = {
        "request_id": record.id,
        "method": record.method,
        "route": record.route,
        "path": record.path[:LONGEST_PATH] if record.route != record.path else None,
        "status": record.final_status,
        "model": record.model,
        "stream": record.streamed or None,
        "prompt_tokens": record.prompt_tokens,
        "cached_tokens": record.cached_tokens,
        "completion_tokens": record.completion_tokens,
        "queue_ms": _rounded(record.queue_ms),
        "first_token_ms": _rounded(None if started is None else (started - record.began_at) * 1000),
        "total_ms": _rounded(record.total_ms),
        "step_threads": record.step_threads,
        "batch_threads": record.batch_threads,
        "finish_reason": ",".join(record.finish_reasons) or None,
        "error": None if record.error is None else record.error.code or record.error.type,
        "param": None if record.error is None else _names_of(record.error.param),
        "prompt": None if record.body is None else record.body.decode(errors="replace"),
        "answer": None if record.answer is None else "".join(record.answer),
    }
    return {name: value for name, value in fields.items() if value is not None}


def describe_briefly(record: RequestRecord, fields: dict[str, Any]) -> str:
    """Return the message of a JSON line, beside which the fields stand by themselves."""
    return f"{record.method} {fields.get('path', record.route)} {record.final_status}"


def describe_fully(record: RequestRecord, fields: dict[str, Any]) -> str:
    """Return the message of a text line: all fields as ``name=value``."""
    return " ".join(f"{name}={_quoted(str(value))}" for name, value in fields.items())


def _names_of(param: str | None) -> str | None:
    names = _NAMES.match(param or "")
    return names.group() if names else None


def _rounded(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 1)


def _quoted(value: str) -> str:
    """Return ``value``, quoted as Python quotes it if it could be mistaken for another field or a new line."""
    return value if _PLAIN.fullmatch(value) and "'" not in value else repr(value)
