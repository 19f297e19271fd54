"""Models of the Hub, downloaded by the real huggingface_hub in its own process from a local Hub."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hub
from config import Settings, SettingsError, load_settings
from tests.support.hub_server import COMMIT, HubServer

ROOT = Path(__file__).resolve().parents[2]
MODEL = "hf:glm/tiny-models/ggml/tiny-q4_0.bin"
# huggingface_hub writes 10 MiB at a time: a download that breaks behind them has something to go on from.
CHUNK = 10 * 2**20
CONTENT = bytes(range(256)) * (CHUNK // 256) + b"the rest" * 2**17
Load = Callable[..., Settings]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    for name in os.environ:
        if name.startswith("HF_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("hub._paths", {})
    server = HubServer({"glm/tiny-models/ggml/tiny-q4_0.bin": CONTENT})
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    yield server
    server.close()


@pytest.fixture
def load(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> Load:
    """``load()``: the settings as a server reads them that starts anew."""

    def make(model: str = MODEL, **environ: str) -> Settings:
        monkeypatch.setattr("hub._paths", {})
        return load_settings({"GLM_MODEL": model, **environ}, hub.fetch)

    return make


def complaint(load: Load, *arguments: str, **environ: str) -> str:
    with pytest.raises(SettingsError) as raised:
        load(*arguments, **environ)
    [line] = raised.value.lines
    assert "\n" not in line
    return line


def blobs(home: Path) -> list[str]:
    return sorted(path.name for path in home.glob("home/hub/models--glm--tiny-models/blobs/*"))


def test_a_model_is_downloaded_once_and_named_after_its_file(load: Load, server: HubServer) -> None:
    settings = load()
    assert settings.model.read_bytes() == CONTENT
    assert settings.model_name == "tiny"
    assert server.downloads() == [None]
    before = len(server.requests)
    assert load_settings({"GLM_MODEL": MODEL}, hub.fetch) == settings
    assert load_settings({"GLM_MODEL": MODEL}) == settings
    assert len(server.requests) == before
    # A start anew asks whether there is a newer one, and no more.
    assert load() == settings
    assert server.downloads() == [None]


def test_a_worker_downloads_nothing(server: HubServer) -> None:
    with pytest.raises(SettingsError, match=f"GLM_MODEL names {MODEL}, which is downloaded when gunicorn starts"):
        load_settings({"GLM_MODEL": MODEL})
    assert server.requests == []


def test_nothing_is_downloaded_if_another_setting_is_invalid(load: Load, server: HubServer) -> None:
    assert complaint(load, GLM_QUEUE_SIZE="many").startswith("GLM_QUEUE_SIZE ")
    assert server.requests == []


def test_a_cached_commit_needs_no_request(load: Load, server: HubServer) -> None:
    pinned = f"hf:glm/tiny-models@{COMMIT}/ggml/tiny-q4_0.bin"
    settings = load(pinned)
    assert settings.model.read_bytes() == CONTENT
    before = len(server.requests)
    assert load(pinned) == settings
    assert len(server.requests) == before


def test_a_broken_connection_is_resumed(load: Load, server: HubServer) -> None:
    server.break_after = CHUNK + 1000
    assert load().model.read_bytes() == CONTENT
    assert server.downloads() == [None, f"bytes={CHUNK}-"]


def test_a_partial_download_is_completed(load: Load, server: HubServer, tmp_path: Path) -> None:
    blob = load().model.resolve()
    for size, asked in ((5000, ["bytes=5000-"]), (len(CONTENT), []), (len(CONTENT) + 1, [None])):
        for link in tmp_path.glob("home/hub/models--*/snapshots/*/ggml/*"):
            link.unlink()
        blob.rename(blob.with_name(f"{blob.name}.incomplete"))
        with blob.with_name(f"{blob.name}.incomplete").open("r+b") as partial:
            partial.truncate(size)
        before = len(server.downloads())
        assert load().model.read_bytes() == CONTENT
        assert server.downloads()[before:] == asked
        assert blobs(tmp_path) == [blob.name]


def test_a_wrong_checksum_is_an_error_and_the_file_is_removed(load: Load, server: HubServer, tmp_path: Path) -> None:
    server.announced = "ab" * 32
    assert f" and not {'ab' * 32}; it has been removed: start again." in complaint(load)
    assert blobs(tmp_path) == []
    server.announced = None
    assert load().model.read_bytes() == CONTENT


def test_offline_the_cached_file_is_served(load: Load, server: HubServer, tmp_path: Path) -> None:
    line = complaint(load, HF_HUB_OFFLINE="1")
    place = tmp_path / "home" / "hub"
    assert line == (
        f"GLM_MODEL names {MODEL}, but it is not in {place}, and HF_HUB_OFFLINE is set: unset it for one start."
    )
    assert server.requests == []
    settings = load()
    before = len(server.requests)
    assert load(HF_HUB_OFFLINE="1") == settings
    assert len(server.requests) == before


def test_the_env_file_may_have_settings_of_the_hub(load: Load, tmp_path: Path) -> None:
    env_file = tmp_path / "glm.env"
    env_file.write_text(f"HF_HOME={tmp_path / 'elsewhere'}\n")
    assert load(GLM_ENV_FILE=str(env_file)).model.is_relative_to(tmp_path / "elsewhere")


def test_the_cached_copy_is_served_if_the_hub_is_down(
    load: Load, server: HubServer, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = load()
    server.refusal = (503, "")
    assert load() == settings
    assert f"{server.url} answers with status 503: try again later. The copy in the cache is served." in (
        capfd.readouterr().err
    )
    server.close()
    assert load() == settings


def test_an_unreachable_hub_is_an_error(load: Load, server: HubServer) -> None:
    server.close()
    line = complaint(load)
    assert line.startswith(f"GLM_MODEL names {MODEL}, but {server.url} cannot be reached (")
    assert line.endswith("): check the network, or name a mirror with HF_ENDPOINT.")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("hf:glm/nothing/tiny.bin", "has no repository glm/nothing, or it is private: check the name, or set HF_TOKEN"),
        ("hf:glm/tiny-models/none.bin", "glm/tiny-models has no file none.bin in main: see "),
        ("hf:glm/tiny-models@v9/ggml/tiny-q4_0.bin", "glm/tiny-models has no revision v9: see "),
    ],
)
def test_a_file_that_the_hub_does_not_have_is_an_error(load: Load, model: str, said: str) -> None:
    line = complaint(load, model)
    assert line.startswith(f"GLM_MODEL names {model}, but ")
    assert said in line


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((401, "RepoNotFound"), "has no repository glm/tiny-models, or it is private"),
        ((401, ""), "answers with status 401: check HF_TOKEN"),
        ((403, "GatedRepo"), "/glm/tiny-models, and HF_TOKEN be a token of who did"),
        ((403, ""), "answers with status 403: check HF_TOKEN"),
        ((404, ""), "answers with status 404: check the name"),
        ((500, ""), "answers with status 500: try again later"),
        ((200, ""), "does not answer as the Hub does: check HF_ENDPOINT"),
    ],
)
def test_a_refusal_by_the_hub_is_an_error(load: Load, server: HubServer, refusal: tuple[int, str], said: str) -> None:
    server.refusal = refusal
    assert said in complaint(load)


def test_a_full_disk_is_an_error(load: Load, tmp_path: Path) -> None:
    blob = load().model.resolve()
    for link in tmp_path.glob("home/hub/models--*/snapshots/*/ggml/*"):
        link.unlink()
    blob.unlink()
    blob.with_name(f"{blob.name}.incomplete").symlink_to("/dev/full")
    place = tmp_path / "home" / "hub"
    assert f"there is no space left for it in {place}: make room, or move it with HF_HOME." in complaint(load)


def test_an_unwritable_cache_is_an_error(load: Load, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = complaint(load, HF_HOME=str(tmp_path / "file"))
    assert f"but the cache cannot be used ({tmp_path / 'file'}" in line
    assert line.endswith(": Not a directory): move it with HF_HOME.")


def test_a_missing_package_is_an_error_with_the_command_that_installs_it(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert complaint(load) == (
        f"GLM_MODEL names {MODEL}, and the package that downloads it is missing: "
        f"{sys.executable} -m pip install -r {ROOT / 'requirements-hf.txt'}."
    )


def test_a_download_that_dies_is_an_error(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert complaint(load) == f"GLM_MODEL names {MODEL}, whose download died (status 1)."


def test_only_the_hub_gets_the_token_and_it_is_not_shown(
    load: Load, server: HubServer, capfd: pytest.CaptureFixture[str]
) -> None:
    load(HF_TOKEN="hf_secret")
    sent = {(request.path.startswith("/storage/"), request.authorization) for request in server.requests}
    assert sent == {(False, "Bearer hf_secret"), (True, None)}
    server.refusal = (401, "")
    load(HF_TOKEN="hf_secret")
    output = capfd.readouterr()
    assert "status 401" in output.err
    assert "hf_secret" not in output.out + output.err
    assert "hf_secret" not in complaint(load, "hf:glm/tiny-models/other.bin", HF_TOKEN="hf_secret")


def test_a_terminal_gets_a_progress_bar_and_anything_else_a_line(
    load: Load, server: HubServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load()
    assert capfd.readouterr().err == "Downloading ggml/tiny-q4_0.bin of glm/tiny-models, 12 MB.\n"
    ours, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with subprocess.Popen(
        [sys.executable, "-m", "hub.download", "glm/tiny-models", "main", "ggml/tiny-q4_0.bin"],
        cwd=ROOT,
        env={**os.environ, "HF_HOME": str(tmp_path / "other"), "HF_HUB_DISABLE_TELEMETRY": "1"},
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    ) as process:
        os.close(terminal)
        shown = b""
        while piece := read(ours):
            shown += piece
        os.close(ours)
        assert process.stdout is not None
        assert '{"path": ' in process.stdout.read()
    assert b"ggml/tiny-q4_0.bin: 100%" in shown


def read(terminal: int) -> bytes:
    """What the terminal shows next; nothing when nobody writes to it any more."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""
