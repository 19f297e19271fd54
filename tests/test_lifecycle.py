"""A reload of the settings in gunicorn's master and worker."""

from __future__ import annotations

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
