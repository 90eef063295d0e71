"""The outermost layer: request ids, CORS, headers of every answer, what is told at its end."""

import re
import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from services.router.api.reply import STORY, Reply
from services.router.api.telling import QUIET
from services.router.core import http
from services.router.core.errors import MethodNotAllowedError
from services.router.core.story import Story

MODELS = "/v1/models"
_SLASHES = re.compile("//+")


class Edge:
    """Wraps the app; ``ended`` gets the story of every request."""

    def __init__(
        self,
        app: ASGIApp,
        routes: tuple[str, ...],
        ended: Callable[[Story, float], None],
        *,
        patience_s: float,
    ) -> None:
        self._app, self._ended, self._patience_s = app, ended, patience_s
        self._routes = frozenset({*routes, *QUIET, MODELS})

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
                await self._options(scope, headers, dressed)
            else:
                await self._app(scope, receive, dressed)
        finally:
            self._ended(story, time.monotonic())

    def _begin(self, scope: HTTPScope, headers: dict[str, str]) -> Story:
        client, path = scope["client"], scope["path"]
        route = _SLASHES.sub("/", path).rstrip("/")
        if route.startswith(MODELS + "/"):
            route = MODELS
        return Story(
            request_id=http.request_id(headers.get("x-request-id"), f"req-{uuid.uuid4().hex}"),
            method=str(scope["method"]),
            path=path[:200],
            client=client[0] if client else "",
            began=time.monotonic(),
            origin="origin" in headers,
            route=route if route in self._routes else "",
        )

    async def _options(self, scope: Scope, headers: dict[str, str], send: Send) -> None:
        """Answer a browser's preflight, which carries no key; nothing else is an OPTIONS for us."""
        reply = Reply(scope, send, patience_s=self._patience_s)
        if http.is_preflight("OPTIONS", headers):
            await reply.start(HTTPStatus.NO_CONTENT, http.preflight(headers))
            await reply.end()
            return
        await reply.refuse(
            MethodNotAllowedError(
                "OPTIONS is answered for CORS preflights only.", allow="GET, POST"
            )
        )


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
            message["headers"] = own + [pair for pair in common if pair[0] not in taken]
        else:
            story.bytes_out += len(message.get("body", b""))
        await send(message)

    return dressed
