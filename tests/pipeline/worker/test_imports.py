"""What the pipeline's children load is what they need: it is paid for at every start and restart, twice."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["flask", "marshmallow", "gevent", "prometheus_client"])
def test_the_children_leave_the_web_side_out(module: str) -> None:
    code = f"import glm_api.pipeline.worker.__main__, sys; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
