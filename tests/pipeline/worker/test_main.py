"""A child ends with one clear line when the web process sends a frame that does not fit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from glm_api.backend.base import ChildRole
from glm_api.pipeline.cpus import child_environment
from glm_api.pipeline.frames import (
    FROM_PIPELINE,
    FROM_TOKENIZER,
    HEADER,
    MAX_FRAME_BYTES,
    Cancel,
    DecodeIds,
    Decoder,
    Finished,
    FrameBuffer,
    LoadModel,
    Ready,
    pack,
)
from tests.support.model_files.fixtures import DEMO_MODEL
from tests.support.processes import PATIENCE, ROOT

DECODERS: dict[ChildRole, Decoder[Any]] = {"pipeline": FROM_PIPELINE, "tokenizer": FROM_TOKENIZER}
EACH_ROLE = pytest.mark.parametrize("role", DECODERS)
LOAD = pack(LoadModel(str(DEMO_MODEL), 64, 1, "auto", 1))


@contextmanager
def child(role: ChildRole) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """A real child, and the web process's end of its socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(PATIENCE)
        with subprocess.Popen(
            [sys.executable, "-m", "glm_api.pipeline.worker", role, str(theirs.fileno()), str(os.getpid())],
            cwd=ROOT,
            env=child_environment(),
            pass_fds=(theirs.fileno(),),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            theirs.close()
            yield process, ours


def first_frame(connection: socket.socket, role: ChildRole) -> object:
    buffer: FrameBuffer[object] = FrameBuffer(DECODERS[role])
    while True:
        data = connection.recv(65536)
        assert data
        for frame in buffer.feed(data):
            return frame


def assert_ends_with_one_line(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert len(output.splitlines()) == 1
    assert output.startswith("The process failed: FrameError at glm_api/pipeline/")


@EACH_ROLE
@pytest.mark.parametrize(
    "sent",
    [
        HEADER.pack(3) + b"\xc1\xff\x00",
        HEADER.pack(MAX_FRAME_BYTES + 1),
        # Frames of the other direction, and frames in place of LoadModel.
        pack(Finished("stop", 1, 1.0, 1.0, 0, 1)),
        pack(Cancel(1)),
        pack(DecodeIds(1, [1])),
    ],
)
def test_a_first_frame_that_does_not_fit_ends_the_child(role: ChildRole, sent: bytes) -> None:
    with child(role) as (process, connection):
        connection.sendall(sent)
        assert_ends_with_one_line(process)


@EACH_ROLE
def test_a_later_frame_that_does_not_fit_ends_the_child(role: ChildRole) -> None:
    with child(role) as (process, connection):
        connection.sendall(LOAD)
        assert isinstance(first_frame(connection, role), Ready)
        connection.sendall(pack(DecodeIds(1, [1]) if role == "pipeline" else Cancel(1)))
        assert_ends_with_one_line(process)
