"""``deploy/wait_until_ready.py``, with which the unit waits for the model, with the real server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import free_port
from tests.support.server import Serve

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "wait_until_ready.py"


def wait(seconds: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, seconds], env=environment, capture_output=True, text=True)


def test_it_returns_when_the_model_is_loaded(serve: Serve) -> None:
    server = serve(ready=False)
    bind = server.url.removeprefix("http://")
    result = wait("60", GLM_BIND=bind, MAINPID=str(server.process.pid))
    assert (result.returncode, result.stderr) == (0, "")
    assert server.health() == 200


@pytest.mark.parametrize("quote", ["", '"'])
def test_it_asks_the_socket_that_the_file_names(serve: Serve, tmp_path: Path, quote: str) -> None:
    socket = tmp_path / "api.sock"
    file = tmp_path / "glm-api.env"
    file.write_text(f"# Where?\nGLM_BIND={quote}unix:{socket}{quote}\nGLM_LOG_FORMAT=json\n")
    serve(ready=False, bind=f"unix:{socket}")
    # An empty variable counts as unset.
    assert wait("60", GLM_ENV_FILE=str(file), GLM_BIND="").returncode == 0


def test_it_gives_up_when_the_server_is_gone() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    result = wait("600", GLM_BIND=f"127.0.0.1:{free_port()}", MAINPID=str(ended.pid))
    assert result.returncode == 1
    assert "is not ready" in result.stderr


def test_it_gives_up_after_the_given_seconds() -> None:
    assert wait("0.1", GLM_BIND=f"127.0.0.1:{free_port()}").returncode == 1
