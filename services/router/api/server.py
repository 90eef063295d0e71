"""One client connection below ASGI: what uvicorn answers in plain text, or waits for, for ever."""

import asyncio
import re
import uuid
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from services.router.api.reply import CONNECTION
from services.router.core import http
from services.router.core.errors import (
    BadRequestError,
    HeadersTooLargeError,
    HttpRefusal,
    SlowBodyError,
    envelope,
    headers_of,
)

HEAD_LIMIT = 64 * 2**10
IDLE_S = 30.0
"""How long a connection may be silent inside a request, or before its first one."""
DISCARD_LIMIT = 64 * 2**20
"""So much of a body is read on after its request was refused, so that the client can read why."""
LINGER_S = 2.0
_UPGRADE = re.compile(rb"\r\nUpgrade:", re.IGNORECASE)


class Below:
    """What an answer may ask of its connection."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def unsent(self) -> int:
        """Return the bytes that wait for the client to read."""
        return self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Close without waiting for the client."""
        self._transport.abort()


class ClientConnection(HttpToolsProtocol):
    """uvicorn's connection with our bounds: head size, silence, bodies nobody wants any more."""

    _head = 0
    _in_head = False
    _discarded = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        super().connection_made(transport)
        self._watch_silence()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        in_head = self._in_head
        super().data_received(self._without_upgrade(data))
        if self._refused or self.transport.is_closing():
            return
        if in_head and self._in_head:
            self._head += len(data)
            self._check_head()
        if self.cycle is None or self.cycle.response_complete:
            self._watch_silence()

    def _without_upgrade(self, data: bytes) -> bytes:
        """Hide an offer to upgrade, which Java's client makes with every request.

        The parser would take the body for another protocol's.
        """
        if not self._in_head and self.cycle is not None and not self.cycle.response_complete:
            return data
        head, blank, rest = data.partition(b"\r\n\r\n")
        return _UPGRADE.sub(b"\r\nX-No-Upgrade:", head) + blank + rest

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head, self._in_head, self._discarded = 0, True, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > HEAD_LIMIT:
            self._head = len(self.url)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head = len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers)
        if self._head > HEAD_LIMIT:
            raise ValueError(
                "the head is too large"
            )  # the parser stops; send_400_response says why
        super().on_headers_complete()
        extensions: dict[str, Any] = {CONNECTION: Below(self.transport)}
        self.scope["extensions"] = extensions

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > DISCARD_LIMIT:
                self.transport.close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says it better
        if self._head > HEAD_LIMIT:
            self._refuse(_head_too_large())
        else:
            self._refuse(BadRequestError("This is no HTTP/1.1 request that can be read."))

    def _check_head(self) -> None:
        if self._head > HEAD_LIMIT:
            self._refuse(_head_too_large())

    def _watch_silence(self) -> None:
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(IDLE_S, self._silent)

    def _silent(self) -> None:
        if self._in_head and not self.transport.is_closing():
            self._refuse(SlowBodyError("The request did not come to its end. Send it again."))
        else:
            self.timeout_keep_alive_handler()

    def _refuse(self, refusal: HttpRefusal) -> None:
        """Answer below ASGI and end the connection, leaving the client time to read the answer."""
        self._refused = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False  # an answer is under way: nothing may be written into it
            return
        body = envelope(refusal)
        common = http.common(f"req-{uuid.uuid4().hex}", 0.0, origin=True)
        headers = [
            *headers_of(refusal),
            *common,
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        lines = [b"%b: %b\r\n" % pair for pair in headers]
        self.transport.write(b"".join([STATUS_LINE[refusal.status], *lines, b"\r\n", body]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def _head_too_large() -> HeadersTooLargeError:
    return HeadersTooLargeError(f"The request's head is larger than {HEAD_LIMIT} bytes.")
