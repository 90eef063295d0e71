"""A client on a bare socket that reads answers strictly: what is not exact HTTP/1.1 fails."""

import asyncio
import json
import re
import socket
from contextlib import suppress

from msgspec import Struct

STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]*")
HEADER = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[\x21-\x7e](?:[ \t\x21-\x7e]*[\x21-\x7e])?)?)"
)
CHUNK = re.compile(rb"([0-9a-fA-F]+)(?:;[\x20-\x7e]*)?")
BODILESS = frozenset({204, 304})


class MalformedError(AssertionError):
    """What came is no answer of HTTP/1.1."""


class Answer(Struct):
    """One answer as it came. ``whole``: its framing says that nothing is missing."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    whole: bool = False
    framing: str = ""
    """``length``, ``chunked``, ``close`` or ``none``."""

    @property
    def stays(self):
        """Whether the connection may carry another request."""
        return self.headers.get("connection", "").lower() != "close" and self.framing != "close"

    @property
    def json(self):
        return json.loads(self.body)


async def turns(count=2):
    """Let everything else in the loop read what has been sent."""
    for _ in range(count):
        await asyncio.sleep(0)


def cut(data, cuts, step=0):
    """Return ``data`` in pieces of ``step`` bytes, or cut at ``cuts`` modulo its length."""
    if step:
        step = max(step, len(data) // 2000)  # byte by byte only what is short
        return [data[at : at + step] for at in range(0, len(data), step)]
    places = sorted({at % len(data) for at in cuts} - {0}) if data else []
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


class Client:
    """One connection to ``port``; ``async with`` opens and closes it."""

    def __init__(self, port):
        self.port = port
        self._buffer = bytearray()
        self.ended = False
        """Whether the other side has closed."""

    async def __aenter__(self):
        self._socket = socket.socket()
        self._socket.setblocking(False)  # noqa: FBT003 - the socket's own signature
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", self.port))
        return self

    async def __aexit__(self, *_):
        self._socket.close()

    async def send(self, pieces):
        """Send piece after piece; a side that has closed already reads no more."""
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            for piece in pieces:
                await loop.sock_sendall(self._socket, piece)
                await turns()

    def say_no_more(self):
        """Close our half."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def answer(self, method="POST"):
        """Return the next final answer, None when the connection ends before its first byte."""
        while (found := await self._one(method)) is not None and 100 <= found.status < 200:
            if found.status != 100:
                raise MalformedError(f"nobody asked for {found.status}")
        return found

    async def rest(self):
        """Return what comes until the end."""
        while await self._more():
            pass
        rest, self._buffer = bytes(self._buffer), bytearray()
        return rest

    async def _one(self, method):
        head = await self._until(b"\r\n\r\n")
        if head is None:
            if self._buffer:
                raise MalformedError(f"half a head: {bytes(self._buffer)!r}")
            return None
        answer = _head(head)
        await self._body(answer, method)
        return answer

    async def _body(self, answer, method):
        length = answer.headers.get("content-length")
        coding = answer.headers.get("transfer-encoding")
        if length is not None and coding is not None:
            raise MalformedError("content-length and transfer-encoding")
        if answer.status in BODILESS or answer.status < 200:
            if length is not None or coding is not None:
                raise MalformedError(f"{answer.status} has no body")
            answer.framing, answer.whole = "none", True
        elif method == "HEAD":
            answer.framing, answer.whole = "none", True
        elif length is not None:
            answer.framing = "length"
            await self._sized(answer, length)
        elif coding is not None:
            answer.framing = "chunked"
            if coding != "chunked":
                raise MalformedError(f"transfer-encoding {coding}")
            await self._chunks(answer)
        else:
            answer.framing, answer.body = "close", await self.rest()
            answer.whole = True  # as far as anyone can tell

    async def _sized(self, answer, length):
        if not length.isdigit():
            raise MalformedError(f"content-length {length}")
        body = await self._exactly(int(length))
        answer.whole = body is not None
        answer.body = await self.rest() if body is None else body

    async def _chunks(self, answer):
        body = bytearray()
        while (line := await self._until(b"\r\n")) is not None:
            found = CHUNK.fullmatch(line[:-2])
            if found is None:
                raise MalformedError(f"chunk size {line!r}")
            size = int(found[1], 16)
            data = await self._exactly(size + 2)
            if data is None:
                body += (await self.rest())[:size]
                break
            if data[size:] != b"\r\n":
                raise MalformedError(f"chunk does not end: {data[-20:]!r}")
            body += data[:size]
            if size == 0:
                answer.whole = True
                break
        answer.body = bytes(body)

    async def _until(self, mark):
        start = 0
        while (at := self._buffer.find(mark, start)) < 0:
            start = max(0, len(self._buffer) - len(mark))
            if not await self._more():
                return None
        return self._take(at + len(mark))

    async def _exactly(self, count):
        while len(self._buffer) < count:
            if not await self._more():
                return None
        return self._take(count)

    def _take(self, count):
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _more(self):
        """Read on; False at the end, in whichever way it came."""
        if self.ended:
            return False
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, 2**18)
        except ConnectionError:
            data = b""
        self.ended = not data
        self._buffer += data
        return bool(data)


def _head(head):
    first, *lines = head[:-4].split(b"\r\n")
    status = STATUS.fullmatch(first)
    if status is None:
        raise MalformedError(f"status line {first!r}")
    headers = {}
    for line in lines:
        found = HEADER.fullmatch(line)
        if found is None:
            raise MalformedError(f"header {line!r}")
        name = found[1].decode().lower()
        if name in headers:
            raise MalformedError(f"{name} twice")
        headers[name] = found[2].decode()
    return Answer(status=int(status[1]), headers=headers)
