"""What engines say when they refuse, in our envelope and without the addresses of our machines.

SGLang's errors are flat (``{"object":"error","message",…}``), FastAPI's are ``{"detail"}``, and a
refused stream is status 200 with an error event. Messages may hold paths and addresses.
"""

import re
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

from services.router.core.errors import EngineRefusal

MESSAGE_LIMIT = 2000
_ADDRESS = re.compile(
    r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>)\]},]+"
    r"|\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b"
    r"|\blocalhost:\d+\b"
    r"|\[[0-9a-f:]*:[0-9a-f:]*\](?::\d+)?",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?<![\w/.<-])(?:~|\.{1,2})?(?:/[\w.@+~-]+){2,}/?|\b[A-Za-z]:\\[^\s'\"]+")
_TOO_LONG = re.compile(
    r"context length|longer than the model|maximum allowed length", re.IGNORECASE
)


class Said(Struct, frozen=True):
    """What could be read of an engine's error."""

    message: str = ""
    status: int | None = None
    param: str | None = None


def read(body: bytes) -> Said:
    """Return what an error body or the data of an error event says."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Said()
    if not isinstance(found, dict):
        return Said()
    inner = found.get("error", found)
    if not isinstance(inner, dict):
        return Said(message=inner if isinstance(inner, str) else "")
    return Said(
        message=_message(inner), status=_status(inner), param=_text(inner.get("param")) or None
    )


def refusal(status: int, said: Said, model: str) -> EngineRefusal:
    """Return what the client gets for an engine's error with ``status``."""
    message = scrub(said.message)[:MESSAGE_LIMIT] or _default(status)
    if status == HTTPStatus.NOT_FOUND and said.message in {"", "Not Found"}:
        message = f"The engine of {model} does not offer this."
    return EngineRefusal(message, status=status, code=_code(status, message), param=said.param)


def scrub(message: str) -> str:
    """Return ``message`` without addresses and paths of machines; model ids stay."""
    return _PATH.sub("[path]", _ADDRESS.sub("[address]", message))


def _message(inner: dict[str, Any]) -> str:
    text = inner.get("message", inner.get("detail"))
    if isinstance(text, list):  # FastAPI: one entry per wrong field
        rows = [row for row in text if isinstance(row, dict)]
        return "; ".join(f"{_place(row)}: {_text(row.get('msg'))}" for row in rows)
    return _text(text)


def _place(row: dict[str, Any]) -> str:
    where = row.get("loc")
    return ".".join(str(part) for part in where[1:]) if isinstance(where, list) else ""


def _status(inner: dict[str, Any]) -> int | None:
    code = inner.get("code")
    if isinstance(code, str) and code.isdigit():
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _default(status: int) -> str:
    try:
        return f"The engine refused the request: {HTTPStatus(status).phrase}."
    except ValueError:
        return f"The engine refused the request with status {status}."


def _code(status: int, message: str) -> str:
    if status == HTTPStatus.BAD_REQUEST and _TOO_LONG.search(message):
        return "context_length_exceeded"
    match status:
        case 404:
            return "not_offered"
        case 413:
            return "request_too_large"
        case 429:
            return "rate_limited"
        case _:
            return "engine_failed" if status >= 500 else "invalid_request"
