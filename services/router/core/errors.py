"""How the router says no over HTTP; what each row means to a client stands in HTTP.md.

HttpRefusal                  status, type, code, param, Retry-After, x-should-retry
├── InvalidKeyError      401 invalid_api_key
├── ModelNotFoundError   404 model_not_found
├── BadRequestError      400 invalid_request
├── RouteNotFoundError   404 route_not_found
├── MethodNotAllowedError 405 method_not_allowed
├── SlowBodyError        408 request_timeout
├── BodyTooLargeError    413 request_too_large
├── EncodingError        415 unsupported_encoding
├── HeadersTooLargeError 431 headers_too_large
├── NotReadyError        503 model_not_ready
├── StoppedError         503 model_stopped
├── ViewsMissingError    503 unavailable
├── EngineFailedError    502 engine_failed
├── EngineRefusal        what an engine answered, in our envelope
└── InternalError        500 internal_error
"""

import math
from typing import ClassVar

import msgspec

from caravan.contracts.errors import Problem, Refusal

RETRY_LIMIT_S = 60.0
"""A client that reads more in ``Retry-After`` may give up instead of waiting."""

INVALID_REQUEST = "invalid_request_error"
UNAVAILABLE = "service_unavailable_error"
RATE_LIMIT = "rate_limit_error"
SERVER = "server_error"

Headers = list[tuple[bytes, bytes]]


class HttpRefusal(Refusal):
    """The root of what the router answers with a status of 400 or more."""

    http_status: ClassVar[int] = 500
    kind: ClassVar[str] = INVALID_REQUEST
    should_retry: ClassVar[bool | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.retry_after_s = retry_after_s

    @property
    def status(self) -> int:
        return self.http_status

    @property
    def type(self) -> str:
        """The envelope's ``type``."""
        return self.kind


class InvalidKeyError(HttpRefusal):
    http_status, code = 401, "invalid_api_key"


class ModelNotFoundError(HttpRefusal):
    http_status, code = 404, "model_not_found"


class BadRequestError(HttpRefusal):
    http_status, code = 400, "invalid_request"


class RouteNotFoundError(HttpRefusal):
    http_status, code = 404, "route_not_found"


class MethodNotAllowedError(HttpRefusal):
    http_status, code = 405, "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class SlowBodyError(HttpRefusal):
    http_status, code = 408, "request_timeout"


class BodyTooLargeError(HttpRefusal):
    http_status, code = 413, "request_too_large"


class EncodingError(HttpRefusal):
    http_status, code = 415, "unsupported_encoding"


class HeadersTooLargeError(HttpRefusal):
    http_status, code = 431, "headers_too_large"


class NotReadyError(HttpRefusal):
    http_status, code, kind = 503, "model_not_ready", UNAVAILABLE


class StoppedError(HttpRefusal):
    http_status, code, kind = 503, "model_stopped", UNAVAILABLE
    should_retry = False


class ViewsMissingError(HttpRefusal):
    http_status, code, kind = 503, "unavailable", UNAVAILABLE


class EngineFailedError(HttpRefusal):
    http_status, code, kind = 502, "engine_failed", SERVER


class InternalError(HttpRefusal):
    http_status, code, kind = 500, "internal_error", SERVER


class EngineRefusal(HttpRefusal):
    """What an engine answered with a status of 400 or more, told on in our envelope."""

    def __init__(self, message: str, *, status: int, code: str, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.problem = Problem(code=code, message=message, param=param)
        self._status = status

    @property
    def status(self) -> int:
        return self._status

    @property
    def type(self) -> str:
        return type_of(self._status)


def type_of(status: int) -> str:
    """Return the envelope's ``type`` for an engine's ``status``."""
    match status:
        case 429:
            return RATE_LIMIT
        case 503:
            return UNAVAILABLE
        case _:
            return SERVER if status >= 500 else INVALID_REQUEST


def envelope(refusal: Refusal) -> bytes:
    """Return the JSON body that OpenAI's clients read an error from."""
    problem = refusal.problem
    kind = refusal.type if isinstance(refusal, HttpRefusal) else type_of(refusal.status)
    error = {
        "message": problem.message,
        "type": kind,
        "param": problem.param,
        "code": problem.code,
    }
    return msgspec.json.encode({"error": error})


def headers_of(refusal: Refusal) -> Headers:
    """Return what goes with :func:`envelope`: content type, when to retry and whether at all."""
    headers: Headers = [(b"content-type", b"application/json")]
    if not isinstance(refusal, HttpRefusal):
        return headers
    if isinstance(refusal, MethodNotAllowedError):
        headers.append((b"allow", refusal.allow.encode()))
    if isinstance(refusal, InvalidKeyError):
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.retry_after_s is not None:
        headers += retry_headers(refusal.retry_after_s)
    if refusal.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if refusal.should_retry else b"false"))
    return headers


def retry_headers(seconds: float) -> Headers:
    """Return ``Retry-After`` and ``retry-after-ms``, never above a minute."""
    wait = min(max(seconds, 0.0), RETRY_LIMIT_S)
    return [
        (b"retry-after", str(math.ceil(wait)).encode()),
        (b"retry-after-ms", str(round(wait * 1000)).encode()),
    ]
