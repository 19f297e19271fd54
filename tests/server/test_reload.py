"""HUP: new requests get the new settings, running answers are not lost, and invalid settings end nothing."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.support.processes import until
from tests.support.server import Serve, Server, chat

CHAT = "/v1/chat/completions"
STREAMS = 8


def test_a_reload_changes_settings_and_loses_no_answer(serve: Serve, tmp_path: Path) -> None:
    env_file = tmp_path / "glm.env"
    env_file.write_text("GLM_MODEL_NAME=before\n")
    server = serve(env_file=str(env_file), graceful_timeout="120")
    [old_worker] = server.workers()
    old_children = set(server.children().values())

    with ThreadPoolExecutor(STREAMS) as pool:
        answers = [pool.submit(stream_to_end, server) for _ in range(STREAMS)]
        # One that came later would meet the new worker, which is not ready yet.
        until(lambda: sum(answer.done() for answer in answers) + admitted(server) == STREAMS)
        env_file.write_text("GLM_MODEL_NAME=after\n")
        server.process.send_signal(signal.SIGHUP)
        for answer in answers:
            assert answer.result().endswith("data: [DONE]\n\n")
            assert '"finish_reason":"stop"' in answer.result()
            assert '"error"' not in answer.result()

    until(lambda: server.health() == 200 and server.workers() != [old_worker])
    assert [model["id"] for model in server.http.get("/v1/models").json()["data"]] == ["after"]
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old_children))
    assert len(server.children()) == 2


def test_a_reload_with_wrong_settings_keeps_the_old_ones_and_logs_each_error_once(serve: Serve, tmp_path: Path) -> None:
    env_file = tmp_path / "glm.env"
    env_file.write_text("GLM_MODEL_NAME=before\n")
    server = serve(env_file=str(env_file), graceful_timeout="120")
    [old_worker] = server.workers()
    env_file.write_text("GLM_MODEL_NAME=after\nGLM_QUEUE_SIZE=many\n")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: server.workers() not in ([old_worker], []) and server.health() == 200)
    assert server.log.read_text().count("GLM_QUEUE_SIZE must be a whole number") == 1
    assert [model["id"] for model in server.http.get("/v1/models").json()["data"]] == ["before"]


def admitted(server: Server) -> int:
    """How many requests wait or run."""
    queue = server.http.get("/queue").json()
    return len(queue["waiting"]) + len(queue["running"])


def stream_to_end(server: Server) -> str:
    with httpx.Client(base_url=server.url, timeout=120) as client:
        body = chat("Tell me a story.", stream=True, n=2)
        with client.stream("POST", CHAT, json=body) as response:
            assert response.status_code == 200
            return "".join(response.iter_text())
