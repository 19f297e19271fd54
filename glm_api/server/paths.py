"""The paths under which the server answers: each has one canonical form, which routes, limits, logs and metrics use.

Import nothing of the application here, because gunicorn's master imports this module through `connections`.
"""

from __future__ import annotations

import re

# First segments of OpenAI's and Anthropic's paths that are answered without /v1 in front too, as llama-server does.
_WITHOUT_VERSION = re.compile(r"/(?:chat|completions|embeddings|messages|models|responses)(?![^/])")
# Paths of other servers, by ours.
_OTHER_NAMES = {"/v1/health": "/health", "/v1/version": "/version"}
# The only page that has a path with a slash at its end too: it redirects, or its relative links would be wrong.
_WITH_SLASH = frozenset({"/", "/docs/"})


def canonical(path: str) -> str:
    """Return the path that routes know for ``path``, the path of a request.

    Repeated slashes and slashes at the end are left out: they come from base URLs that end in a slash.
    """
    path = re.sub("/{2,}", "/", path)
    if path not in _WITH_SLASH:
        path = path.removesuffix("/")
    if _WITHOUT_VERSION.match(path):
        path = f"/v1{path}"
    return _OTHER_NAMES.get(path, path)
