"""Exceptions in the log: one line of types and places, and nothing that a client sent."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from glm_api.log.faults import describe
from glm_api.log.lines import JsonFormatter, TextFormatter
from glm_api.pipeline.cpus import child_environment
from glm_api.pipeline.frames import HEADER
from tests.support.client import CHAT, HELLO, MakeApp
from tests.support.fake_pipeline import FakePipeline

ROOT = Path(__file__).resolve().parents[2]
SECRET = "the secret question"


def caught(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """``error`` as it is when it was raised here."""
    try:
        raise error from cause
    except type(error) as raised:
        return raised


@pytest.mark.parametrize(
    "error",
    [KeyError(SECRET), ValueError(SECRET), UnicodeEncodeError("utf-8", SECRET, 0, 1, SECRET), TypeError(SECRET)],
)
def test_the_message_of_an_exception_is_left_out(error: Exception) -> None:
    told = describe(caught(error))
    assert SECRET not in told
    assert told.startswith(f"{type(error).__name__} at tests/log/test_faults.py:")
    assert told.endswith(" in caught")


@pytest.mark.parametrize("error", [OSError(28, "No space"), ImportError("No module named x"), RuntimeError("check")])
def test_a_message_about_files_modules_or_the_engines_checks_is_kept(error: Exception) -> None:
    assert str(error) in describe(caught(error))


def test_the_cause_is_described_too() -> None:
    told = describe(caught(ValueError(SECRET), caught(KeyError(SECRET))))
    assert told.count(" at tests/log/test_faults.py:") == 2
    assert ", after KeyError at " in told
    assert SECRET not in told


def test_a_deep_recursion_is_a_short_line() -> None:
    def deeper() -> None:
        deeper()

    with pytest.raises(RecursionError) as raised:
        deeper()
    told = describe(raised.value)
    assert told.startswith("RecursionError at tests/log/test_faults.py:")
    assert told.endswith(" more")
    assert len(told) < 2000


@pytest.fixture
def record(
    make_app: MakeApp, fake: FakePipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> logging.LogRecord:
    """What is logged when the server fails on a request, with a message that holds the prompt."""

    def fail(job: object) -> NoReturn:
        raise KeyError(SECRET)

    monkeypatch.setattr(fake, "generate", fail)
    response = make_app().test_client().post(CHAT, json={"messages": HELLO}, buffered=True)
    assert response.status_code == 500
    assert SECRET not in response.text
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    return record


def test_a_fault_is_one_line_of_text_without_the_prompt(record: logging.LogRecord) -> None:
    line = TextFormatter("%(levelname)s %(message)s").format(record)
    assert "\n" not in line
    assert SECRET not in line
    assert " failed: " in line
    assert " at glm_api/" in line or " at tests/" in line


def test_a_fault_is_one_json_object_without_the_prompt(record: logging.LogRecord) -> None:
    line = JsonFormatter("%(message)s").format(record)
    assert "\n" not in line
    assert SECRET not in line
    assert " at " in json.loads(line)["exc_info"]


def test_the_child_dies_with_one_line_and_without_the_prompt() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen(
            [sys.executable, "-m", "glm_api.pipeline.worker", "pipeline", str(theirs.fileno()), str(os.getpid())],
            cwd=ROOT,
            env=child_environment(),
            pass_fds=(theirs.fileno(),),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        frame = json.dumps([SECRET]).encode()
        ours.sendall(HEADER.pack(len(frame)) + frame)
        output, _ = child.communicate(timeout=60)
    assert child.returncode == 1
    assert len(output.splitlines()) == 1
    assert output.startswith("The process failed: FrameError at glm_api/pipeline/frames.py:")
    assert SECRET not in output


@pytest.mark.parametrize(
    "failure",
    [
        "gevent.spawn(fail).join()",
        "threading.Thread(target=fail).start()",
        "fail()",
        "class Odd:\n    def __del__(self): fail()\nOdd()",
        "gevent.get_hub().loop.run_callback(fail); gevent.sleep(0.01)",
        "warnings.warn('first\\nsecond')",
        "logging.getLogger('x').warning('%d', 'the secret question')",
    ],
)
def test_every_failure_in_the_server_is_one_line_of_the_log(failure: str) -> None:
    code = f"""
import logging, sys, threading, warnings
import gevent
from glm_api.log.lines import StderrHandler, TextFormatter, log_faults

handler = StderrHandler()
handler.setFormatter(TextFormatter("LOG %(message)s"))
logging.getLogger().addHandler(handler)
log_faults()

def fail():
    raise KeyError("the secret question")

{failure}
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    [line] = result.stderr.splitlines()
    assert line.startswith("LOG ")
    assert SECRET not in line
