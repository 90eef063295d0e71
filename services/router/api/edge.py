"""The outermost layer of what Litestar answers: request ids, CORS, one story per request."""

import re
import time
from collections.abc import Callable
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from services.router.api.shared import Telling
from services.router.core import http
from services.router.core.dialects import DEFAULT, DIALECTS, Dialect
from services.router.core.errors import Headers, MethodNotAllowedError, headers_of
from services.router.core.story import Story

STORY = "story"
"""Where the ASGI scope's state has the story of a request."""
MODELS = "/v1/models"
ROUTES = frozenset({*DIALECTS, MODELS, "/health", "/ready", "/metrics"})
_SLASHES = re.compile("//+")


class Edge:
    """Wraps the app; ``telling`` gets the story of every request."""

    def __init__(self, app: ASGIApp, telling: Telling, new_id: Callable[[], str]) -> None:
        self._app, self._telling, self._new_id = app, telling, new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        headers = http.readable(scope["headers"])
        story = self._begin(scope, headers)
        scope.setdefault("state", {})[STORY] = story
        dressed = _dressing(story, send)
        try:
            if scope["method"] == "OPTIONS":
                await _options(story, headers, dressed)
            else:
                await self._app(scope, receive, dressed)
        finally:
            self._telling.ended(story, time.monotonic())

    def _begin(self, scope: HTTPScope, headers: dict[str, str]) -> Story:
        client, path = scope["client"], scope["path"]
        route = _SLASHES.sub("/", path).rstrip("/")
        if route.startswith(MODELS + "/"):
            route = MODELS
        given = headers.get("x-request-id")
        return Story(
            request_id=http.request_id(given.encode("latin-1") if given else None, self._new_id),
            method=str(scope["method"]),
            path=path[:200],
            client=client[0] if client else "",
            began=time.monotonic(),
            origin="origin" in headers,
            route=route if route in ROUTES else "",
        )


def story_of(scope: Scope) -> Story:
    """Return the story that the edge put into ``scope``."""
    story = scope["state"][STORY]
    assert isinstance(story, Story)
    return story


def _dialect(story: Story) -> Dialect:
    return DIALECTS.get(story.route, DEFAULT)


async def _options(story: Story, headers: dict[str, str], send: Send) -> None:
    """Answer a browser's preflight, which carries no key; nothing else is an OPTIONS for us."""
    if http.is_preflight("OPTIONS", headers):
        await _answer(send, 204, http.preflight(headers), b"")
        return
    refusal = MethodNotAllowedError(
        "OPTIONS is answered for CORS preflights only.", allow="GET, POST"
    )
    body = _dialect(story).envelope(refusal, story.request_id)
    await _answer(send, refusal.status, headers_of(refusal), body)


async def _answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    if body:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    start: Any = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _dressing(story: Story, send: Send) -> Send:
    """Return a ``send`` that adds what every answer carries, and notes what is sent."""

    async def dressed(message: Any) -> None:  # noqa: ANN401 - an ASGI message
        if message["type"] == "http.response.start":
            story.status, story.answered = int(message["status"]), time.monotonic()
            own = list(message["headers"])
            taken = {name for name, _ in own}
            common = http.common(
                story.request_id, story.answered - story.began, origin=story.origin
            )
            common += _dialect(story).headers(story.request_id)
            message["headers"] = own + [pair for pair in common if pair[0] not in taken]
        else:
            story.bytes_out += len(message.get("body", b""))
        await send(message)

    return dressed
