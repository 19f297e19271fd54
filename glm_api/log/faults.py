"""Describe an unforeseen exception for the log: its type and places, and nothing that a client sent.

The message of an exception often contains a client's data: a ``KeyError`` has the key, a ``UnicodeError`` the text. So
the message is left out, except for types whose messages name files, modules, attributes and the like.
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

# Only the innermost places of an exception are shown; the outer ones are those of the web framework.
PLACES = 10
# Maximum length of the chain of exceptions, each of which caused the one before.
CAUSES = 3
MESSAGE_CHARACTERS = 300

_CHECKOUT = f"{Path(__file__).resolve().parents[2]}{os.sep}"
_LIBRARY = re.compile(r"^.*/(?:site-packages|python3\.\d+)/")

Tell = Callable[[str, BaseException], None]


def describe(error: BaseException) -> str:
    """Return a line such as ``KeyError at glm_api/chat/routes.py:12 in create <- flask/app.py:880 in run``."""
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
    # chatglm_cpp's checks raise a RuntimeError itself, with their source line as the message.
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
    """Pass uncaught exceptions, which Python would print with their message, to ``tell`` with a note of where."""

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            tell("A thread failed", args.exc_value)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            tell("An exception was ignored", args.exc_value)

    sys.excepthook = lambda _type, error, _places: tell("The process failed", error)
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
