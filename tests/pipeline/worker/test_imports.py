"""The children import only what they need, because each of the two does so at every start."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["flask", "marshmallow", "gevent", "prometheus_client"])
def test_the_children_do_not_import_the_web_side(module: str) -> None:
    code = f"import glm_api.pipeline.worker.__main__, sys; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
