"""GLM_MODEL=hf:... with the whole server: it downloads the model at boot, and at HUP if the model has changed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_server import HubServer
from tests.support.processes import until
from tests.support.server import Serve, Server, chat

ROOT = Path(__file__).resolve().parents[2]
DEMO = (ROOT / "demo" / "chatglm3-demo.q8_0.bin").read_bytes()
# huggingface_hub writes 10 MiB at a time.
CHUNK = 10 * 2**20
LARGE = bytes(CHUNK + 5000)


@pytest.fixture
def hub_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    for name in os.environ:
        if name.startswith("HF_"):
            monkeypatch.delenv(name)
    hub_server = HubServer(
        {"glm/demo/chatglm3-demo.q8_0.bin": DEMO, "glm/demo/other.bin": DEMO, "glm/large/m.bin": LARGE}
    )
    monkeypatch.setenv("HF_ENDPOINT", hub_server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    yield hub_server
    hub_server.close()


def partial_size(home: Path) -> int:
    """Bytes of the download that is under way."""
    return sum(path.stat().st_size for path in home.glob("home/hub/*/blobs/*.incomplete"))


def model_ids(server: Server) -> list[str]:
    return [model["id"] for model in server.http.get("/v1/models").json()["data"]]


def test_a_hub_model_is_served_and_a_reload_downloads_only_a_new_one(
    serve: Serve, hub_server: HubServer, tmp_path: Path
) -> None:
    env_file = tmp_path / "glm.env"
    env_file.write_text("GLM_MODEL=hf:glm/demo/chatglm3-demo.q8_0.bin\n")
    server = serve(env_file=str(env_file))
    assert model_ids(server) == ["chatglm3-demo"]
    answer = server.http.post("/v1/chat/completions", json=chat("What is the capital of France?"))
    assert answer.json()["choices"][0]["message"]["content"]
    requests = list(hub_server.requests)

    reload(server)
    assert model_ids(server) == ["chatglm3-demo"]
    assert hub_server.requests == requests

    env_file.write_text("GLM_MODEL=hf:glm/demo/other.bin\n")
    reload(server)
    assert model_ids(server) == ["other"]
    assert hub_server.requests != requests

    env_file.write_text("GLM_MODEL=hf:glm/demo/none.bin\n")
    reload(server)
    assert model_ids(server) == ["other"]
    assert "glm/demo has no file none.bin" in server.log.read_text()
    assert "The previous settings stay in force." in server.log.read_text()


def reload(server: Server) -> None:
    before = server.workers()
    server.process.send_signal(signal.SIGHUP)
    until(lambda: not set(before) & set(server.workers()) and server.health() == 200)


def test_a_download_during_a_reload_does_not_delay_the_shutdown(
    serve: Serve, hub_server: HubServer, tmp_path: Path
) -> None:
    env_file = tmp_path / "glm.env"
    env_file.write_text("GLM_MODEL=hf:glm/demo/chatglm3-demo.q8_0.bin\n")
    server = serve(env_file=str(env_file))
    hub_server.break_after, hub_server.hold = CHUNK + 100, True
    env_file.write_text("GLM_MODEL=hf:glm/large/m.bin\n")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: partial_size(tmp_path) == CHUNK)
    assert model_ids(server) == ["chatglm3-demo"]
    assert server.stop() == 0
    log = server.log.read_text()
    assert "GLM_MODEL names hf:glm/large/m.bin, whose download was stopped; the next start goes on from there." in log
    assert "Traceback" not in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_boot_ends_in_one_line_and_the_next_resumes_the_download(
    hub_server: HubServer, tmp_path: Path, number: signal.Signals
) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GLM_")}
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "--check-config", "wsgi:app"]
    environment = {**inherited, "GLM_MODEL": "hf:glm/large/m.bin"}
    hub_server.break_after, hub_server.hold = CHUNK + 100, True
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as boot:
        until(lambda: partial_size(tmp_path) == CHUNK)
        # As a terminal does with Ctrl-C: to all that are in the foreground.
        os.killpg(boot.pid, number)
        _, told = boot.communicate()
    assert boot.returncode == 1
    assert told.splitlines() == [
        "Downloading m.bin of glm/large, 10 MB.",
        "GLM_MODEL names hf:glm/large/m.bin, whose download was stopped; the next start goes on from there.",
    ]
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert again.stderr == "Downloading m.bin of glm/large, 10 MB, from 10 MB on.\n"
    assert hub_server.downloads() == [None, f"bytes={CHUNK}-"]
