"""Two real replicas behind nginx, one of them drained and one killed under load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.nginx import ROOT, MakeProxy
from tests.support.processes import until
from tests.support.server import Serve, Server, chat

CHAT = "/v1/chat/completions"
CLIENTS = 12


def ask(proxy: httpx.Client) -> httpx.Response:
    return proxy.post(CHAT, json=chat("Tell me a story.", n=2), timeout=240)


def busy(server: Server) -> bool:
    queue = server.http.get("/queue").json()
    return len(queue["running"]) > 0 and len(queue["waiting"]) > 0


def address(server: Server) -> str:
    return server.url.removeprefix("http://")


def under_load(pool: ThreadPoolExecutor, proxy: httpx.Client, *servers: Server) -> list[Future[httpx.Response]]:
    answers = [pool.submit(ask, proxy) for _ in range(CLIENTS)]
    until(lambda: all(busy(server) for server in servers))
    return answers


def test_a_drained_replica_loses_nothing_and_a_killed_one_only_what_it_had(serve: Serve, make_proxy: MakeProxy) -> None:
    first, second = (serve(graceful_timeout="240") for _ in range(2))
    proxy = make_proxy(address(first), address(second))
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = under_load(pool, proxy, first, second)
        first.process.send_signal(signal.SIGTERM)
        assert [answer.result().status_code for answer in answers] == [200] * CLIENTS
        first.process.wait(60)
        assert ask(proxy).status_code == 200

        third = serve()
        proxy = make_proxy(address(second), address(third))
        answers = under_load(pool, proxy, second, third)
        for pid in (second.process.pid, *second.workers()):
            os.kill(pid, signal.SIGKILL)
        statuses = [answer.result().status_code for answer in answers]
        # Requests that nginx had sent to the killed replica get 502, and the client decides; all others are served.
        assert set(statuses) == {200, 502}
        assert statuses.count(502) <= CLIENTS / 2 + 1
        assert ask(proxy).status_code == 200


def test_another_replica_answers_what_a_stopping_one_has_no_time_for(serve: Serve, make_proxy: MakeProxy) -> None:
    first, second = serve(graceful_timeout="0"), serve()
    proxy = make_proxy(address(first), address(second))
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = under_load(pool, proxy, first, second)
        first.process.send_signal(signal.SIGTERM)
        lost = [answer.result() for answer in answers if answer.result().status_code != 200]
    # Only the running request is lost, and the server itself says so.
    assert len(lost) <= 1
    for response in lost:
        assert (response.status_code, response.json()["error"]["code"]) == (500, "shutting_down")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder for sockets that nginx can open as any user."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def test_replicas_on_unix_sockets_are_restarted_one_after_the_other(
    serve: Serve, make_proxy: MakeProxy, open_folder: Path
) -> None:
    sockets = [open_folder / name for name in "ab"]
    servers = [serve(ready=False, bind=f"unix:{socket}") for socket in sockets]
    proxy = make_proxy(*(f"unix:{socket}" for socket in sockets))
    for index, socket in enumerate(sockets):
        for awaited in sockets:
            command = [sys.executable, str(ROOT / "deploy" / "wait_until_ready.py"), "60"]
            subprocess.run(command, env={"GLM_BIND": f"unix:{awaited}"}, check=True)
        servers[index].stop()
        assert ask(proxy).status_code == 200
        # Requests are answered while it loads, too.
        servers[index] = serve(ready=False, bind=f"unix:{socket}")
        assert [ask(proxy).status_code for _ in range(3)] == [200] * 3
