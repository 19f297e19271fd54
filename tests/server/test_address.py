"""A server that cannot listen on its address says so in one line, which names GLM_BIND and what to do."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from glm_api.server.address import fault
from tests.support.processes import PATIENCE
from tests.support.server import Serve


@pytest.fixture
def taken() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def test_a_port_in_use_ends_the_start_in_one_line(serve: Serve, taken: socket.socket) -> None:
    with taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        server = serve(bind=bind, ready=False)
        assert server.process.wait(PATIENCE) == 1
    [line] = [line for line in server.log.read_text().splitlines() if "Starting gunicorn" not in line]
    assert line.endswith(
        f"ERROR gunicorn.error: The server cannot listen on GLM_BIND={bind}: another program uses the port. "
        "End that program, or choose another port in GLM_BIND."
    )


@pytest.mark.parametrize("bind", ["192.0.2.1:8000", "unix:/nowhere/api.sock"])
def test_an_address_that_cannot_be_used_ends_the_start_in_one_line(serve: Serve, bind: str, tmp_path: Path) -> None:
    server = serve(bind=bind, ready=False)
    assert server.process.wait(PATIENCE) == 1
    [line] = [line for line in server.log.read_text().splitlines() if "Starting gunicorn" not in line]
    assert f"The server cannot listen on GLM_BIND={bind}: " in line


def test_a_port_that_becomes_free_in_time_is_used(taken: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    host, port = taken.getsockname()
    assert fault((host, port), patience=0) is not None
    # The other server ends while this one waits.
    monkeypatch.setattr("glm_api.server.address.time.sleep", lambda seconds: taken.close())
    assert fault((host, port)) is None


def test_a_port_that_is_free_is_no_fault() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert fault(("127.0.0.1", port)) is None
    assert fault(("localhost", port)) is None


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("192.0.2.1", "GLM_BIND=192.0.2.1:8000: this machine does not have that address"),
        ("2001:db8::1", "GLM_BIND=[2001:db8::1]:8000: "),
        ("nobody.invalid", "GLM_BIND=nobody.invalid:8000: there is no machine of that name"),
    ],
)
def test_an_address_of_another_machine_is_a_fault(host: str, told: str) -> None:
    assert told in (fault((host, 8000)) or "")


def test_a_socket_needs_a_folder_that_it_can_be_made_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "api.sock"
    assert fault(str(path)) is None
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    # gunicorn replaces what an earlier server has left.
    assert fault(str(path)) is None
    path.unlink()
    path.write_text("")
    assert "not a socket" in (fault(str(path)) or "")
    assert f"no folder {tmp_path / 'absent'}" in (fault(str(tmp_path / "absent" / "api.sock")) or "")
    assert "too long" in (fault(str(tmp_path / ("x" * 108))) or "")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may do everything
    path.unlink()
    assert f"may not make a socket in {tmp_path}" in (fault(str(path)) or "")
