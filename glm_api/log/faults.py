"""The log line of an unforeseen exception: its type and places, and nothing that a client sent.

The message of an exception is somebody's data more often than not: a ``KeyError`` is the key, a ``UnicodeError`` holds
the text. So it is left out, but for types whose messages name files, modules, attributes and the like.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

# The innermost places of each exception; those around them are the web framework's.
PLACES = 10
# An exception may have come of another, and so on.
CAUSES = 3
MESSAGE_CHARACTERS = 300

_CHECKOUT = f"{Path(__file__).resolve().parents[2]}{os.sep}"
_LIBRARY = re.compile(r"^.*/(?:site-packages|python3\.\d+)/")

Tell = Callable[[str, BaseException], None]


def describe(error: BaseException) -> str:
    """Such as ``KeyError at glm_api/chat/routes.py:12 in create <- flask/app.py:880 in run, after OSError ...``."""
    return ", after ".join(_describe_one(link) for link in islice(_chain(error), CAUSES))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _describe_one(error: BaseException) -> str:
    places = [
        f"{_short(frame.f_code.co_filename)}:{line} in {frame.f_code.co_qualname}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    name = type(error).__name__
    # A bare RuntimeError is what the checks of chatglm_cpp raise; they tell their source line.
    if isinstance(error, (OSError, ImportError, AttributeError, NameError)) or type(error) is RuntimeError:
        name += f" ({' '.join(str(error).split())[:MESSAGE_CHARACTERS]})"
    if not places:
        return name
    inner = places[: -PLACES - 1 : -1]
    more = f" <- {len(places) - len(inner)} more" if len(places) > len(inner) else ""
    return f"{name} at {' <- '.join(inner)}{more}"


def _short(path: str) -> str:
    return _LIBRARY.sub("", path.removeprefix(_CHECKOUT))


def catch(tell: Tell) -> None:
    """Give what nobody catches, and Python would print with all its text, to ``tell`` with a few words of where."""

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            tell("A thread failed", args.exc_value)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            tell("An exception was ignored", args.exc_value)

    sys.excepthook = lambda _type, error, _places: tell("The process failed", error)
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
