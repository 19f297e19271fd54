"""API keys. If the settings have none, everybody may call the server.

Keys come from ``GLM_API_KEYS`` and from the file ``GLM_API_KEYS_FILE``, which is read again when it changes: keys are
added and revoked without a restart. If the file vanishes or becomes invalid, its last valid keys stay valid. At boot
`config` refuses a setting for keys that holds none.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from flask import Flask, g, request

from config import Settings, read_key_file
from glm_api.errors import ApiError

logger = logging.getLogger(__name__)

# Probes, the version, and the pages with their assets need no key. All that tells of models or requests needs one.
OPEN_BLUEPRINTS = frozenset({"pages"})
PROBE_ENDPOINTS = frozenset({"probes.health", "probes.ping", "probes.livez"})
OPEN_ENDPOINTS = PROBE_ENDPOINTS | {"probes.version", "api-docs.openapi_json"}
METRICS_ENDPOINT = "metrics"


class KeyFile:
    """The keys in a file that may change; `config.read_key_file` reads it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version: tuple[int, ...] | None = None
        self._digests: frozenset[bytes] = frozenset()

    def digests(self) -> frozenset[bytes]:
        """Return the digests of the keys; read a changed file again, and keep the last valid keys if it is invalid."""
        try:
            stat = os.stat(self._path)
            version: tuple[int, ...] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            version = ()
        if version != self._version:
            self._version = version
            self._read()
        return self._digests

    def _read(self) -> None:
        try:
            keys = read_key_file(self._path)
        except (OSError, ValueError) as error:
            # A file that is being rewritten is empty for a moment.
            reason = error.strerror if isinstance(error, OSError) else str(error)
            kept = "the keys that it held before stay valid" if self._digests else "it lets nobody in"
            logger.warning("GLM_API_KEYS_FILE cannot be read (%s); %s.", reason, kept)
            return
        logger.info("GLM_API_KEYS_FILE holds %d %s.", len(keys), "key" if len(keys) == 1 else "keys")
        self._digests = frozenset(map(_digest, keys))


class Keys:
    """All keys of the settings."""

    def __init__(self, settings: Settings) -> None:
        self._digests = frozenset(map(_digest, settings.api_keys))
        self._file = KeyFile(settings.api_keys_file) if settings.api_keys_file is not None else None

    def accept(self, key: str) -> bool:
        """Return whether ``key`` is valid, in the same time for a wrong key as for a right one."""
        known: Iterable[bytes] = self._digests | (self._file.digests() if self._file is not None else frozenset())
        given = _digest(key)
        found = False
        for digest in known:
            found |= hmac.compare_digest(digest, given)
        return found


def register(app: Flask, settings: Settings) -> None:
    """Require a key for every route of ``app`` that is not open."""
    if settings.keyless:
        return
    keys = Keys(settings)
    open_endpoints = OPEN_ENDPOINTS | ({METRICS_ENDPOINT} if settings.metrics_open else set())

    @app.before_request
    def authenticate() -> None:
        if request.endpoint is None or request.endpoint in open_endpoints or request.blueprint in OPEN_BLUEPRINTS:
            return
        if request.method == "OPTIONS":
            # A browser sends this request without the key, to learn whether it may send the key.
            return
        key = _given_key()
        if key is None:
            raise _refused("This server asks for an API key. Send it as `Authorization: Bearer KEY`.")
        if not keys.accept(key):
            raise _refused("The API key is not valid here.")
        g.caller = _digest(key)


def caller() -> bytes:
    """Return the digest of the API key that the request came with; empty bytes if the server has no keys."""
    digest: bytes = g.get("caller", b"")
    return digest


def _given_key() -> str | None:
    # Not `request.authorization`, which takes a key that contains = for parameters.
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return request.headers.get("X-Api-Key")


def _refused(message: str) -> ApiError:
    return ApiError(
        401,
        message,
        type="authentication_error",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
