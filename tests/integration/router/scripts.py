"""An engine on bare sockets that writes exactly the bytes of a script, in exactly its pieces."""

import asyncio
import json
import re
import socket
from contextlib import suppress

from msgspec import Struct

from tests.integration.router.engine import ANSWER, USAGE_EVENT, event, token
from tests.integration.router.wire import turns

KEEP, CLOSE, RESET = "keep", "close", "reset"
LINE = re.compile(r"(POST|GET) (/\S*) HTTP/1\.1")
PLAIN = json.dumps(ANSWER).encode()
TOKENS = b"".join(map(event, [token("hel"), token("lo"), token("", "stop")]))
STREAM = TOKENS + event("[DONE]")
STREAM_AND_USAGE = TOKENS + event(USAGE_EVENT) + event("[DONE]")


class Script(Struct, frozen=True):
    """What an engine writes for one request, and how it leaves the connection."""

    pieces: list[bytes]
    end: str = KEEP

    def __repr__(self):
        return f"<{b'|'.join(self.pieces)[:3000]!r}, {self.end}>"


class Got(Struct, frozen=True):
    """One request as the engine got it."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self):
        return self.headers.get("x-request-id", "")


def sized(body, content_type="application/json", head=""):
    """Return a good answer with a content-length."""
    top = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n{head}content-length: {len(body)}"
    return top.encode() + b"\r\n\r\n" + body


def chunked(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def polite(got):
    """Answer well, as a stream where one is asked for."""
    try:
        asked = json.loads(got.body).get("stream") is True
    except (ValueError, RecursionError, AttributeError):
        asked = False
    if not asked:
        return Script([sized(PLAIN)])
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return Script(
        [head, chunked(TOKENS), chunked(event(USAGE_EVENT) + event("[DONE]")), b"0\r\n\r\n"]
    )


class ScriptedEngine:
    """Serves ``script(got)`` on a free port; ``open`` are the connections that it holds now."""

    def __init__(self, script=polite):
        self.script = script
        self.got, self.open, self.busy = [], set(), 0
        self.accepted = 0
        self.wrong = []
        """What came and was no exact request; a test looks that it is empty."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self.port = self._listening.getsockname()[1]
        self._tasks = {asyncio.create_task(self._accept())}
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listening.close()

    async def _accept(self):
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listening)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            self.open.add(sock)
            task = asyncio.create_task(self._serve(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock):
        try:
            with suppress(OSError):
                while (got := await self._request(sock)) is not None:
                    self.busy += 1
                    try:
                        if await self._write(sock, self._script(got)):
                            return
                    finally:
                        self.busy -= 1
        finally:
            self.open.discard(sock)
            sock.close()

    def _script(self, got):
        if got.path == "/health":  # a probe
            return Script([sized(b"{}")])
        self.got.append(got)
        return self.script(got)

    async def _write(self, sock, script):
        """Write ``script``; tell whether the connection ends with it."""
        loop = asyncio.get_running_loop()
        for piece in script.pieces:
            await loop.sock_sendall(sock, piece)
            await turns()
        if script.end == RESET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return script.end != KEEP

    async def _request(self, sock):
        loop = asyncio.get_running_loop()
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := await loop.sock_recv(sock, 2**18)):
                return self._nothing(data)
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.split(":", 1) for line in lines]
        headers = {name.lower(): value.strip() for name, value in pairs}
        line = LINE.fullmatch(first)
        if line is None or len(headers) != len(lines) or "host" not in headers:
            self.wrong.append(head)
        length = int(headers.get("content-length", "0"))
        while len(body) < length:
            if not (more := await loop.sock_recv(sock, 2**18)):
                return self._nothing(data + body)
            body += more
        if len(body) > length:
            self.wrong.append(body[length:])
        return Got(line[2] if line else "", headers, body)

    def _nothing(self, data):
        if data:
            self.wrong.append(data)
