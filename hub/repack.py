"""Repack a model file for llama.cpp before the server starts, if llama.cpp cannot read it, or not well.

gunicorn's master does it once, and its workers find the result here after the fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hub.program import Died, Refused, Stopped, run

_PROGRAM: Final = "glm_api.pipeline.worker.llama_cpp.repack"


class RepackError(Exception):
    """A file cannot be repacked. The message is one line, which follows the name of the variable."""


# `repacked` or `repack`: returns the path of the GGUF file that a model is served from.
Repack = Callable[[Path], Path]

_paths: dict[Path, Path] = {}


def repacked(model: Path) -> Path:
    """Return the GGUF file of ``model``, which this process or its parent has made. Raises `RepackError`.

    A GGUF file that has not been looked at is served as it is.
    """
    path = _paths.get(model)
    if path is None:
        with model.open("rb") as file:
            if file.read(4) == b"GGUF":
                return model
    if path is None or not path.exists():
        raise RepackError(
            f"names {model.name}, which is repacked when gunicorn starts with gunicorn.conf.py, or gets HUP"
        )
    return path


def repack(model: Path) -> Path:
    """Return the GGUF file of ``model``; make it first if it is needed, with a progress bar on a terminal.

    Raises `RepackError`, also if a signal ends this process meanwhile. Call it in the main thread.
    """
    try:
        # Asked each time: the program knows the file by its content, which may have changed.
        path = _paths[model] = run([_PROGRAM, str(model)], os.environ)
    except Stopped:
        raise RepackError(f"names {model.name}, whose repacking was stopped; the next start begins anew") from None
    except Died as died:
        raise RepackError(f"names {model.name}, whose repacking died (status {died.status})") from None
    except Refused as refused:
        raise RepackError(f"names {model.name}, but {refused}") from None
    return path
