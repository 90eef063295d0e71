"""The way back to a client over ASGI: start once, write with back-pressure, end once."""

import asyncio
from typing import Any, Protocol

from litestar.types import Receive, Scope, Send

from caravan.contracts.errors import Refusal
from services.router.core.errors import Headers, envelope, headers_of
from services.router.core.story import Story

CONNECTION = "caravan.connection"
"""The extension of the ASGI scope under which the server gives its :class:`Connection`."""
STORY = "story"


class ClientGoneError(Exception):
    """The client has left, or reads nothing any more."""


class Connection(Protocol):
    """What lies below ASGI."""

    def unsent(self) -> int:
        """Return the bytes that wait for the client to read."""

    def abort(self) -> None:
        """Close without waiting for the client."""


class Reply:
    """One answer. A client that reads nothing for ``patience_s`` is cut."""

    def __init__(self, scope: Scope, send: Send, *, patience_s: float) -> None:
        extensions: dict[str, Any] = scope.get("extensions") or {}
        self._connection: Connection | None = extensions.get(CONNECTION)
        self._send, self._patience_s = send, patience_s
        self.started = False
        self.ended = False

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of the answer."""
        self.started = True
        await self._pass({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes) -> None:
        """Send a part of the body; returns when the client keeps up."""
        if data:
            await self._pass({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        """Send the last part of the body."""
        self.ended = True
        await self._pass({"type": "http.response.body", "body": data, "more_body": False})

    async def refuse(self, refusal: Refusal, *, close: bool = False) -> None:
        """Answer with ``refusal``; ``close``: this connection carries no further request."""
        body = envelope(refusal)
        headers = [*headers_of(refusal), (b"content-length", str(len(body)).encode())]
        if close:
            headers.append((b"connection", b"close"))
        await self.start(refusal.status, headers)
        await self.end(body)

    def abort(self) -> None:
        """Break the connection, so that a part of an answer does not look whole."""
        if self._connection is not None:
            self._connection.abort()

    async def _pass(self, message: Any) -> None:  # noqa: ANN401 - an ASGI message
        before = self._unsent()
        while True:
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._send(message)
            except TimeoutError:
                if self._unsent() >= before:
                    self.abort()
                    why = f"the client read nothing for {self._patience_s:g} s"
                    raise ClientGoneError(why) from None
                before = self._unsent()
            else:
                return

    def _unsent(self) -> int:
        return self._connection.unsent() if self._connection is not None else 0


def story_of(scope: Scope) -> Story:
    """Return the story that the edge put into ``scope``."""
    story = scope["state"][STORY]
    assert isinstance(story, Story)
    return story


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
