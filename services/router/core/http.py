"""What every answer carries, and what a browser may be told: pure, so that any lane can use it."""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus

from services.router.core.errors import Headers

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_CLOSE = b"connection: close\r\n"
_ALLOWED = re.compile(
    r"authorization|content-type|accept|x-request-id|x-stainless-[a-z0-9-]+|openai-[a-z]+"
    r"|x-api-key|anthropic-[a-z-]+"
)
_ALLOW_ALWAYS = ("authorization", "content-type", "x-request-id")
_EXPOSED = ", ".join(
    [
        "x-request-id",
        "request-id",
        "openai-processing-ms",
        "x-caravan-instance",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        *(
            f"x-ratelimit-{what}-{unit}"
            for what in ("limit", "remaining", "reset")
            for unit in ("requests", "tokens")
        ),
    ]
)
EVENT_STREAM: Headers = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class RequestIds:
    """Makes request ids: 16 hex digits ``of_process``, and a number in 16 more."""

    def __init__(self, of_process: str) -> None:
        self._begin, self._count = f"req-{of_process}", itertools.count(1)

    def __call__(self) -> str:
        return "%s%016x" % (self._begin, next(self._count))  # noqa: UP031 - half an f-string's time


def given_id(given: bytes | None) -> str | None:
    """Return the client's own request id if it has the form of one."""
    if given is not None and REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return None


def request_id(given: bytes | None, make: Callable[[], str]) -> str:
    """Return the client's own id if it has the form of one, else one that ``make`` makes."""
    return given_id(given) or make()


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Tell a browser's question before a request from a mere OPTIONS."""
    return (
        method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers
    )


def preflight(headers: Mapping[str, str]) -> Headers:
    """Return the answer's headers to a preflight: what is allowed of what it asks for."""
    asked = headers.get("access-control-request-headers", "").lower().split(",")
    names = dict.fromkeys(
        [*_ALLOW_ALWAYS, *(name for raw in asked if _ALLOWED.fullmatch(name := raw.strip()))]
    )
    return [
        (b"access-control-allow-origin", b"*"),
        (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
        (b"access-control-allow-headers", ", ".join(names).encode()),
        (b"access-control-max-age", b"3600"),
    ]


def common(request: str, elapsed_s: float, *, origin: bool) -> Headers:
    """Return what every answer carries; ``origin``: the request came from a browser's page."""
    headers: Headers = [
        (b"x-request-id", request.encode()),
        (b"openai-processing-ms", str(round(elapsed_s * 1000)).encode()),
    ]
    return headers + cors() if origin else headers


def cors() -> Headers:
    """Return what lets a page of any origin read an answer; keys, not cookies, say who asks."""
    return [
        (b"access-control-allow-origin", b"*"),
        (b"access-control-expose-headers", _EXPOSED.encode()),
    ]


def readable(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return request headers by lower-case name; the first of several counts."""
    found: dict[str, str] = {}
    for name, value in headers:
        found.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return found


def lines(headers: Headers) -> bytes:
    """Return ``headers`` as they stand on the wire."""
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


EVENT_STREAM_LINES = lines(EVENT_STREAM)
CORS_LINES = lines(cors())


def status_line(status: int) -> bytes:
    """Return the first line of an answer."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:  # an engine may make up its own
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


def ending(*, origin: bool, close: bool) -> bytes:
    """Return the lines that depend on who asked and on what becomes of the connection."""
    return (CORS_LINES if origin else b"") + (_CLOSE if close else b"")
