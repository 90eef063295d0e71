"""Chat completions over HTTP, read as they stream; the router's errors become refusals."""

import http.client
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from caravan.contracts.errors import Problem, Refusal, RemoteRefusal, UnavailableError
from caravan.contracts.errors import meaning as known_meaning

SILENCE_S = 150.0
"""Longer than a router's own patience between bytes: it says what is wrong before we give up."""


class Asking(Struct, frozen=True, kw_only=True):
    """Whom to ask, and as who."""

    url: str
    key: str
    model: str


class Answer(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    model: str
    content: str
    finish_reason: str
    instance: str
    usage: dict[str, Any] | None = None


class HttpRefusal(RemoteRefusal):
    """What the router refused; codes of HTTP alone end a command by their status."""

    def __init__(self, problem: Problem, status: int) -> None:
        super().__init__(problem)
        self._status = status

    @property
    def exit(self) -> int:
        if known_meaning(self.problem.code).exit != 1:
            return super().exit
        return {400: 2, 401: 4, 403: 4, 404: 5, 429: 4, 503: 3}.get(self._status, 1)


def usable(asking: Asking) -> bool | None:
    """Tell whether the router takes the key; None when it cannot say now."""
    try:
        status, _ = _get(asking, "/v1/models")
    except UnavailableError:
        return None
    return None if status >= http.client.INTERNAL_SERVER_ERROR else status == http.client.OK


def stream(
    asking: Asking,
    messages: Sequence[dict[str, str]],
    options: dict[str, Any],
    show: Callable[[str], None],
) -> Answer:
    """Return the answer; ``show`` gets each piece when it comes.

    Raises what the router refused, or ``HttpRefusal`` when the answer breaks off.
    """
    body = {"model": asking.model, "messages": list(messages), "stream": True, **options}
    body["stream_options"] = {"include_usage": True}
    connection = _connection(asking)
    try:
        response = _send(connection, "POST", "/v1/chat/completions", asking, json.dumps(body))
        if response.status != http.client.OK:
            raise _refused(response.status, response.read())
        return _read(response, asking.model, show)
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, model: str, show: Callable[[str], None]) -> Answer:
    pieces: list[str] = []
    finish, usage = "", None
    for event in _events(response):
        if "error" in event:
            raise HttpRefusal(_problem(event["error"]), http.client.BAD_GATEWAY)
        usage = event.get("usage") or usage
        for choice in event.get("choices", [])[:1]:
            piece = choice.get("delta", {}).get("content") or ""
            finish = choice.get("finish_reason") or finish
            if piece:
                pieces.append(piece)
                show(piece)
    return Answer(
        model=model,
        content="".join(pieces),
        finish_reason=finish,
        instance=response.headers.get("x-caravan-instance", ""),
        usage=usage,
    )


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the events up to ``[DONE]``; an end before it is refused."""
    try:
        for line in response:
            data = line.decode(errors="replace").strip()
            if data == "data: [DONE]":
                return
            if data.startswith("data:"):
                yield json.loads(data[5:])
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _broken() from error
    raise _broken()


def _broken() -> Refusal:
    problem = Problem(
        code="engine_failed", message="The answer broke off before its end: ask again."
    )
    return HttpRefusal(problem, http.client.BAD_GATEWAY)


def _get(asking: Asking, path: str) -> tuple[int, bytes]:
    connection = _connection(asking)
    try:
        response = _send(connection, "GET", path, asking, None)
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise _away(asking) from error
    finally:
        connection.close()


def _connection(asking: Asking) -> http.client.HTTPConnection:
    parts = urlsplit(asking.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=SILENCE_S)


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    asking: Asking,
    body: str | None,
) -> http.client.HTTPResponse:
    headers = {"Authorization": f"Bearer {asking.key}", "Content-Type": "application/json"}
    path = urlsplit(asking.url).path.rstrip("/") + path
    try:
        connection.request(method, path, body, headers)
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise _away(asking) from error
    except UnicodeEncodeError as error:
        problem = Problem(code="invalid_api_key", message="This is no API key: check --key.")
        raise HttpRefusal(problem, http.client.UNAUTHORIZED) from error


def _away(asking: Asking) -> UnavailableError:
    return UnavailableError(
        f"The router does not answer at {asking.url}: see `caravan status`, start it with"
        " `caravan up`."
    )


def _refused(status: int, body: bytes) -> Refusal:
    try:
        error = msgspec.json.decode(body, type=dict[str, Any])["error"]
    except (msgspec.DecodeError, KeyError):
        error = {"message": f"The router answers {status} without a reason."}
    return HttpRefusal(_problem(error), status)


def _problem(error: object) -> Problem:
    said = error if isinstance(error, dict) else {"message": str(error)}
    return Problem(
        code=str(said.get("code") or "internal_error"),
        message=str(said.get("message") or "It failed without a reason."),
        param=said.get("param"),
    )
