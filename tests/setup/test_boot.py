"""How the server comes up and goes down, seen from a terminal: from any directory, with clean words when it cannot."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
GUNICORN = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "wsgi:app"]


def environment(**settings: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GLM_")}
    return inherited | {"GLM_NUM_THREADS": "1"} | settings


def test_wrong_settings_end_the_boot_in_one_line_each(tmp_path: Path) -> None:
    result = subprocess.run(
        GUNICORN,
        cwd=tmp_path,
        env=environment(GLM_QUEUE_SIZE="many", GLM_MODEL="/nowhere/model.bin"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert sorted(result.stderr.splitlines()) == [
        "GLM_MODEL names '/nowhere/model.bin', which does not exist.",
        "GLM_QUEUE_SIZE must be a whole number from 0 to 10000, not 'many'.",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_starts_from_any_directory_and_ends_without_a_traceback(tmp_path: Path, number: signal.Signals) -> None:
    # A relative model path is taken from where the server is started.
    (tmp_path / "mine.bin").symlink_to(ROOT / "demo" / "chatglm3-demo.q8_0.bin")
    with subprocess.Popen(
        GUNICORN,
        cwd=tmp_path,
        env=environment(GLM_BIND=f"unix:{tmp_path}/api.sock", GLM_MODEL="mine.bin", GLM_QUEUE_SIZES="1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            if "Booting worker" in line:
                break
        # The socket is open by now; the answer comes when the worker serves.
        with httpx.Client(transport=httpx.HTTPTransport(uds=f"{tmp_path}/api.sock"), timeout=60) as client:
            assert client.get("http://server/livez").status_code == 200
        # As a terminal does with Ctrl-C: to the master and the worker at once.
        os.killpg(server.pid, number)
        lines += list(server.stderr)
        assert server.wait(60) == 0
    output = "".join(lines)
    assert "WARNING glm_api: GLM_QUEUE_SIZES is not a setting of this server" in output
    assert f"Listening at: unix:{tmp_path}/api.sock" in output
    assert "Traceback" not in output
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+\d{4} [A-Z]+ [\w.]+: .", line) for line in lines), output
