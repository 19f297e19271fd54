"""gunicorn's worker class; requests that never reach the application get OpenAI's error envelope too.

gunicorn itself refuses what it cannot read as HTTP, by default with an HTML page that repeats what the client sent.

Import nothing of the application here but `connections` and the log, because gunicorn's master imports this module, and
what the master imports stays unpatched by gevent in the worker.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from ssl import SSLError
from typing import TYPE_CHECKING, Any

from gunicorn import util
from gunicorn.http import errors

from glm_api.server.connections import BoundedWorker

if TYPE_CHECKING:
    from glm_api.errors import ApiError

_HEADERS = {
    "CONTENT-LENGTH": "The header Content-Length is not one number, or comes together with Transfer-Encoding.",
    "TRANSFER-ENCODING": "The header Transfer-Encoding can only be `chunked`, once, with HTTP/1.1.",
    "HOST": "The header Host comes twice, or contains a control character.",
    "CONTENT-TYPE": "The header Content-Type comes twice, or contains a control character.",
}


class Worker(BoundedWorker):
    """The worker that ``gunicorn.conf.py`` names."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that gunicorn refuses or fails at, and close its connection, which may be out of step."""
        error = _error_of(exc, self.cfg)
        if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.error("A request failed outside of the application.", exc_info=exc)
        else:
            sender = addr[0] if addr else "the Unix socket"
            self.log.info("Refused a request from %s: %d %s", sender, error.status, error.message)
        # The method of a request is unknown if its head cannot be read.
        request = req or getattr(exc, "req", None)
        try:
            util.write_nonblock(client, _response(error, head_only=getattr(request, "method", "") == "HEAD"))
        except OSError:
            self.log.debug("The client is gone.")
        # If it were closed at once, data that the client still sends would make its system discard the answer.
        util.close_graceful(client)


def _response(error: ApiError, head_only: bool) -> bytes:
    body = json.dumps(error.body()).encode()
    headers = {
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **error.headers,
    }
    first = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"
    lines = [first, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + (b"" if head_only else body)


def _error_of(exc: BaseException, cfg: Any) -> ApiError:
    """Return the error that the client gets for ``exc``. It repeats nothing of the request, which may hold secrets."""
    from glm_api.errors import NO_RETRY, ApiError, unforeseen

    match exc:
        case errors.InvalidResponseHeader() | errors.InvalidResponseHeaderName() | errors.ConfigurationProblem():
            return unforeseen()
        case errors.LimitRequestLine():
            message = f"The request line is too long: at most {cfg.limit_request_line} bytes are accepted."
            return ApiError(414, message)
        case errors.LimitRequestHeaders():
            limit = f"at most {cfg.limit_request_fields} of at most {cfg.limit_request_field_size} bytes each"
            return ApiError(431, f"There are too many headers, or one is too long: {limit} are accepted.")
        case errors.UnsupportedTransferCoding():
            message = "The Transfer-Encoding is not supported: send the body with Content-Length, or chunked."
            return ApiError(501, message, headers=NO_RETRY)
        case errors.ExpectationFailed():
            return ApiError(417, "The header Expect can only be `100-continue`. Leave it out.")
        case errors.InvalidRequestMethod():
            message = "The method is not an HTTP method: send GET or POST, in capital letters."
        case errors.InvalidRequestLine() | errors.InvalidHTTPVersion():
            message = (
                "The request line is not HTTP/1.1: send a method, a path in which everything but visible ASCII is "
                "percent-encoded, and HTTP/1.1. Without TLS the URL begins with http://."
            )
        case errors.InvalidHeaderName():
            message = "The name of a header may contain only letters, digits and !#$%&'*+-.^_`|~."
        case errors.ObsoleteFolding():
            message = "A header continues on a second line: send each header on one line."
        case errors.InvalidHeader():
            other = "A header is not NAME: VALUE on one line that ends with CRLF and has no control characters."
            message = _HEADERS.get(exc.hdr, other)
        case errors.InvalidSchemeHeaders():
            message = "X-Forwarded-Proto and the other headers that name the client's scheme contradict each other."
        case errors.InvalidChunkSize() | errors.InvalidChunkExtension() | errors.ChunkMissingTerminator():
            message = "The chunked body is broken: send each chunk as its size in hexadecimal, CRLF, its data, CRLF."
        case errors.ParseException() | SSLError():
            message = "The request is not HTTP/1.1."
        case _:
            return unforeseen()
    return ApiError(400, message)
