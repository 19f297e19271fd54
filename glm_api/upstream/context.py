"""The backend of the running application with ``GLM_BACKEND=openai``; see `glm_api.context`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from glm_api.context import backend

if TYPE_CHECKING:
    from glm_api.upstream.client import UpstreamClient

upstream = cast("UpstreamClient", backend)
