"""A reload of the settings in gunicorn's master and worker."""

from __future__ import annotations

import os

import pytest

from config import SettingsError
from glm_api.lifecycle import SettingsLoader


def test_a_reload_with_wrong_settings_keeps_the_valid_ones(caplog: pytest.LogCaptureFixture) -> None:
    loader = SettingsLoader()
    with pytest.raises(SettingsError):
        loader.load({"GLM_QUEUE_SIZE": "many"})
    valid = loader.load({"GLM_QUEUE_SIZE": "5"})
    assert loader.load({"GLM_QUEUE_SIZE": "many"}) == valid
    assert caplog.messages == [
        "GLM_QUEUE_SIZE must be a whole number from 0 to 10000, not 'many'. The previous settings stay in force."
    ]
    assert loader.load({"GLM_QUEUE_SIZE": "6"}).queue_size == 6


def test_a_worker_logs_no_error_that_its_master_has_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = SettingsLoader()
    loader.load({})
    loader.load({"GLM_QUEUE_SIZE": "many"})
    master = os.getpid()
    with monkeypatch.context() as worker:
        worker.setattr(os, "getpid", lambda: master + 1)
        worker.setattr(os, "getppid", lambda: master)
        loader.load({"GLM_QUEUE_SIZE": "many"})
        assert len(caplog.messages) == 1
        loader.load({"GLM_QUEUE_SIZE": "few"})
        assert len(caplog.messages) == 2
    # The next HUP reports again what is still wrong.
    loader = SettingsLoader()
    loader.load({})
    for _ in range(2):
        loader.load({"GLM_QUEUE_SIZE": "many"})
    assert len(caplog.messages) == 4
