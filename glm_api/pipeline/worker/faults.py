"""What is told of an exception that one request has caused, while the process goes on."""

from __future__ import annotations

import traceback


def as_line(error: Exception) -> str:
    """The type of ``error`` and where it was raised, for the log.

    Its message is left out, since it may quote what a client sent. chatglm_cpp's own checks raise RuntimeError; their
    messages name its source lines, and nothing else does.
    """
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    message = f": {' '.join(str(error).split())}" if type(error) is RuntimeError else ""
    return f"{type(error).__name__} at {frame.f_code.co_filename}:{line}{message}"
