"""Models of the Hugging Face Hub: their names in ``GLM_MODEL``, and their download before the server starts.

gunicorn's master downloads a model once, and its workers find the result here after the fork. huggingface_hub runs in a
process of its own (``hub.download``), because whatever the master imports stays unpatched by gevent in the worker.
``hub.repack`` does the same for a model that llama.cpp shall serve and cannot read.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hub.program import Died, Refused, Stopped, command_to_install, run

PREFIX: Final = "hf:"
SYNTAX: Final = "hf:OWNER/REPO[@REVISION]/FILE"
# The Hub's rule for names: no dot or hyphen at either end, nor two in a row.
_NAME: Final = r"\w+(?:[.-]\w+)*"
_PATTERN: Final = re.compile(
    rf"{PREFIX}(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>{_NAME}))?/(?P<path>[^\s\\]+)", flags=re.ASCII
)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a model repository; ``revision`` is a branch, a tag or a commit."""

    repo: str
    revision: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse ``hf:OWNER/REPO/FILE`` or ``hf:OWNER/REPO@REVISION/FILE``; return None if ``text`` is neither."""
        match = _PATTERN.fullmatch(text)
        if match is None or not text.isprintable() or {"", ".", ".."} & set(match["path"].split("/")):
            return None
        return cls(match["repo"], match["revision"] or "main", match["path"])

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"{PREFIX}{self.repo}{revision}/{self.path}"


class HubError(Exception):
    """A file of the Hub is not available. The message is one line, which follows the name of the variable."""


# `fetched` or `fetch`: returns the path of a file. The mapping is the environment, with HF_HOME and the like.
Fetch = Callable[[HubFile, Mapping[str, str]], Path]

_paths: dict[HubFile, Path] = {}


def fetched(file: HubFile, environ: Mapping[str, str]) -> Path:
    """Return the path of ``file``, which this process or its parent has downloaded. Raises `HubError`."""
    path = _paths.get(file)
    if path is None or not path.exists():
        raise HubError(f"names {file}, which is downloaded when gunicorn starts with gunicorn.conf.py, or gets HUP")
    return path


def fetch(file: HubFile, environ: Mapping[str, str]) -> Path:
    """Return the path of ``file``; download it first if necessary, with a progress bar if standard error is a terminal.

    A download that was stopped is resumed. Raises `HubError`, also if a signal ends this process meanwhile. Call it in
    the main thread.
    """
    path = _paths.get(file)
    if path is None or not path.exists():
        path = _paths[file] = _run(file, environ)
    return path


def _run(file: HubFile, environ: Mapping[str, str]) -> Path:
    if importlib.util.find_spec("huggingface_hub") is None:
        install = command_to_install("requirements-hf.txt")
        raise HubError(f"names {file}, and the package that downloads it is missing: {install}")
    # No telemetry: it costs a request, only to report which tool started us.
    environ = {"HF_HUB_DISABLE_TELEMETRY": "1", **os.environ, **environ}
    try:
        return run(["hub.download", file.repo, file.revision, file.path], environ)
    except Stopped:
        raise HubError(f"names {file}, whose download was stopped; the next start goes on from there") from None
    except Died as died:
        raise HubError(f"names {file}, whose download died (status {died.status})") from None
    except Refused as refused:
        raise HubError(f"names {file}, but {refused}") from None
