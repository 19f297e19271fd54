"""Content security policies: what a browser may load and run on each page."""

from __future__ import annotations

from collections.abc import Mapping

Policy = Mapping[str, str]

# Swagger UI uses React, which assigns innerHTML without a trusted type; all else is as strict as on the chat page.
DOCS_POLICY: Policy = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}

CHAT_POLICY: Policy = {
    **DOCS_POLICY,
    # Only DOMPurify may convert a string to HTML; any other assignment to innerHTML throws, the page's own included.
    "require-trusted-types-for": "'script'",
    "trusted-types": "dompurify",
}


def header(policy: Policy) -> str:
    """Return the value of the header `Content-Security-Policy`."""
    return "; ".join(f"{directive} {sources}" for directive, sources in policy.items())
