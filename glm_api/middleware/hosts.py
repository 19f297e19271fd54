"""``GLM_ALLOWED_HOSTS``: the host names that the server answers to.

Any website can let its own name point to 127.0.0.1 (DNS rebinding). The browser then takes this server for that site,
and lets the site's pages send requests and read the responses. Only the ``Host`` header, which has the site's name,
shows it. So a server that browsers on this machine can reach, and that requires no key, answers only to localhost's
names and the listed names.
"""

from __future__ import annotations

import re

from flask import Flask, request

from config import Settings, is_loopback
from glm_api.errors import ApiError
from glm_api.middleware.auth import PROBE_ENDPOINTS

_HOST = re.compile(r"(?P<name>[\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d*)?", re.ASCII)


def register(app: Flask, settings: Settings) -> None:
    """Refuse requests that were sent to other names, except to probes, which are sent to all kinds of names."""
    allowed = frozenset(settings.allowed_hosts)
    unchecked = not (settings.loopback and settings.keyless)
    if "*" in allowed or (not allowed and unchecked):
        return

    @app.before_request
    def check_host() -> None:
        host = request.environ.get("HTTP_HOST")
        # Browsers always send one.
        if host is None or request.endpoint in PROBE_ENDPOINTS:
            return
        found = _HOST.fullmatch(host)
        name = found["name"].lower().removesuffix(".") if found else ""
        if name not in allowed and not is_loopback(name):
            raise ApiError(
                403,
                "This server does not answer to the name in the Host header. If the name is yours, list it: start "
                f"the server with GLM_ALLOWED_HOSTS={name or 'NAME'} (comma-separated names, or * for any).",
                code="host_not_allowed",
            )
