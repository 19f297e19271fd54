"""Models of the Hugging Face Hub: their names in ``GLM_MODEL``, and their download before the server starts.

gunicorn's master downloads a model once, and its workers find the result here after the fork. huggingface_hub runs in a
process of its own (``hub.download``), because whatever the master imports stays unpatched by gevent in the worker.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

PREFIX: Final = "hf:"
SYNTAX: Final = "hf:OWNER/REPO[@REVISION]/FILE"
# The signals that end a server also end its download.
_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)

_CHECKOUT: Final = Path(__file__).resolve().parents[1]
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
        install = f"{sys.executable} -m pip install -r {_CHECKOUT / 'requirements-hf.txt'}"
        raise HubError(f"names {file}, and the package that downloads it is missing: {install}")
    search_path = os.pathsep.join(filter(None, (str(_CHECKOUT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-m", "hub.download", file.repo, file.revision, file.path],
        # No telemetry: it costs a request, only to report which tool started us.
        env={"HF_HUB_DISABLE_TELEMETRY": "1", **os.environ, **environ, "PYTHONPATH": search_path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # So that Ctrl-C reaches this process only.
        process_group=0,
    )
    with _ending(process) as told_to_end:
        output, _ = process.communicate()
    if told_to_end:
        raise HubError(f"names {file}, whose download was stopped; the next start goes on from there")
    try:
        result = json.loads(output)
    except ValueError:
        raise HubError(f"names {file}, whose download died (status {process.returncode})") from None
    if "error" in result:
        raise HubError(f"names {file}, but {result['error']}")
    return Path(result["path"])


@contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """In the block, a signal that ends this process ends ``process`` first. Yields the list of signals received."""
    come: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        come.append(number)
        process.terminate()
        before = handlers[number]
        # At a reload, gunicorn's own handler must get the signal too. Python's would only raise KeyboardInterrupt.
        if callable(before) and before is not signal.default_int_handler:
            before(number, frame)

    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in _ENDING_SIGNALS}
    for number in _ENDING_SIGNALS:
        signal.signal(number, end)
    try:
        yield come
    finally:
        for ending, handler in handlers.items():
            signal.signal(ending, handler)
