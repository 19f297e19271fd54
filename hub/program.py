"""Run a program of this project before the server starts, in a process of its own.

It prints one line of JSON, ``{"path": ...}`` or ``{"error": ...}``, and shows its progress on standard error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

# The signals that end a server also end the program.
_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)

_CHECKOUT: Final = Path(__file__).resolve().parents[1]


class Stopped(Exception):
    """A signal has ended the program, because it ends this process."""


class Refused(Exception):
    """The program gives a reason why there is no path."""


class Died(Exception):
    """The program has ended without a word, with ``status``."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def command_to_install(requirements: str) -> str:
    """Return the command that installs ``requirements``, a file of this checkout."""
    return f"{sys.executable} -m pip install -r {_CHECKOUT / requirements}"


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> Path:
    """Run a module with its arguments and return the path that it prints. Raises `Stopped`, `Refused` and `Died`.

    Call it in the main thread.
    """
    search_path = os.pathsep.join(filter(None, (str(_CHECKOUT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**environ, "PYTHONPATH": search_path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        # So that Ctrl-C reaches this process only.
        process_group=0,
    )
    with _ending(process) as told_to_end:
        output, _ = process.communicate()
    if told_to_end:
        raise Stopped
    try:
        result = json.loads(output)
    except ValueError:
        raise Died(process.returncode) from None
    if "error" in result:
        raise Refused(result["error"])
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
