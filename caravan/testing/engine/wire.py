"""HTTP/1.1 as uvicorn serves it, without its weight: requests in, answers written as they come."""

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from socket import SO_LINGER, SOL_SOCKET
from typing import cast

import httptools
import msgspec
from msgspec import Struct

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
EVENTS = "text/event-stream; charset=utf-8"


class Request(Struct, kw_only=True):
    """One whole request; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class Reply:
    """The answer to one request: ``send`` it whole, or ``write`` and ``end`` a stream."""

    def __init__(self, connection: "Connection", *, keep_alive: bool) -> None:
        self._connection = connection
        self._keep_alive = keep_alive
        self.begun = False
        self.done = False

    def send(self, status: int, body: object = None, **headers: str) -> None:
        """Answer ``body`` as JSON; None answers nothing but the status."""
        data = b"" if body is None else msgspec.json.encode(body)
        kind = {} if body is None else {"content-type": JSON}
        self._send(status, data, headers | kind)

    def send_text(self, status: int, text: str, kind: str = TEXT) -> None:
        """Answer ``text``."""
        self._send(status, text.encode(), {"content-type": kind})

    def begin(self) -> None:
        """Send the head of a stream of events."""
        self._head(200, {"content-type": EVENTS, "transfer-encoding": "chunked"})

    async def write(self, data: bytes) -> None:
        """Send ``data`` as one chunk; waits while the client does not read."""
        if not self.begun:
            self.begin()
        if data:  # an empty chunk would be the last one
            self._connection.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._connection.writable.wait()

    def end(self) -> None:
        """End a stream cleanly."""
        if not self.begun:
            self.begin()
        self._connection.transport.write(b"0\r\n\r\n")
        self._finish()

    def close(self) -> None:
        """Take no further request on this connection."""
        self._connection.transport.close()

    def cut(self) -> None:
        """Reset the connection; what is not sent is lost."""
        socket = self._connection.transport.get_extra_info("socket")
        socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))  # RST, not FIN
        self._connection.transport.abort()
        self.done = True

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self._head(status, headers | {"content-length": str(len(data))})
        self._connection.transport.write(data)
        self._finish()

    def _head(self, status: int, headers: dict[str, str]) -> None:
        if not self._keep_alive:
            headers["connection"] = "close"
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "server: uvicorn"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._connection.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        self.begun = True

    def _finish(self) -> None:
        self.done = True
        if not self._keep_alive:
            self.close()


Handle = Callable[[Request, Reply], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client: its requests are answered one after the other, and abandoned when it leaves."""

    transport: asyncio.Transport

    def __init__(self, handle: Handle, open_connections: "set[Connection]") -> None:
        self._handle = handle
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.write(
                b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n"
                b"connection: close\r\n\r\nInvalid HTTP request received."
            )
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._open.discard(self)
        self.writable.set()
        if self._task:
            self._task.cancel()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", dict[str, str](), bytearray()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        request = Request(
            method=self._parser.get_method().decode(),
            path=httptools.parse_url(self._url).path.decode(),
            headers=self._headers,
            body=bytes(self._body),
            keep_alive=self._parser.should_keep_alive(),
        )
        self._waiting.append(request)
        self._next()

    # One request at a time.

    @property
    def busy(self) -> bool:
        """A request is being answered."""
        return self._task is not None

    def _next(self) -> None:
        if self._task is None and self._waiting and not self.transport.is_closing():
            request = self._waiting.popleft()
            reply = Reply(self, keep_alive=request.keep_alive)
            self._task = asyncio.create_task(self._answer(request, reply))
            self._task.add_done_callback(self._answered)

    async def _answer(self, request: Request, reply: Reply) -> None:
        try:
            await self._handle(request, reply)
        finally:
            if not reply.done:  # it failed, or its client left
                self.transport.abort()

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.result()  # an error in here is shown by the loop, with its traceback
        self._next()
