"""A tiny engine for one test: a script gets each request and the bare connection."""

import asyncio
import json
from contextlib import suppress

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
FLAT = {"object": "error", "message": "", "type": "BadRequest", "param": None, "code": 400}


class Request:
    def __init__(self, line, headers, body):
        self.method, self.path, _ = line.split(" ", 2)
        self.headers, self.body = headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Connection:
    """What a script writes to; ``gone`` is set when the router has closed the connection."""

    def __init__(self, writer):
        self.writer, self.gone = writer, asyncio.Event()

    async def raw(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body, status=200, headers=""):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}"
        await self.raw(head.encode() + b"content-length: %d\r\n\r\n" % len(data) + data)

    async def begin(self):
        await self.raw(STREAM)

    async def chunk(self, data):
        data = data if isinstance(data, bytes) else event(data)
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self):
        await self.raw(b"0\r\n\r\n")

    def reset(self):
        self.writer.transport.abort()


def event(data):
    return (
        b"data: "
        + (data.encode() if isinstance(data, str) else json.dumps(data).encode())
        + b"\n\n"
    )


def token(text, finish=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "choices": [choice]}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
USAGE_EVENT = {"id": "c-1", "choices": [], "usage": USAGE}
ANSWER = {
    "id": "c-1",
    "object": "chat.completion",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ],
    "usage": USAGE,
}


async def polite(request, connection):
    """Answer well, as a stream where one is asked for."""
    if not request.json.get("stream"):
        await connection.answer(ANSWER)
        return
    await connection.begin()
    for word in ("hel", "lo"):
        await connection.chunk(token(word))
    await connection.chunk(token("", "stop"))
    await connection.chunk(USAGE_EVENT)
    await connection.chunk("[DONE]")
    await connection.end()


async def well(_, connection):
    """Answer a probe as an engine does that is well."""
    await connection.answer(b"")


class Engine:
    """Serves ``script`` on a free port; keeps the requests that it got.

    A router may probe it at any time: ``GET /health`` gets ``health`` and stands in ``probes``.
    """

    def __init__(self, script=polite):
        self.script, self.requests, self.open = script, [], set()
        self.health, self.probes = well, []
        self.url = ""

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**22)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def close(self):
        self._server.close()
        for task in list(self.open):
            task.cancel()
        await asyncio.gather(*self.open, return_exceptions=True)

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self.open.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while not writer.is_closing():
                    await self._one(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            self.open.discard(task)
            writer.transport.abort()

    async def _one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in head[1:-2]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request, connection = Request(head[0], headers, body), Connection(writer)
        probe = (request.method, request.path) == ("GET", "/health")
        (self.probes if probe else self.requests).append(request)
        watching = asyncio.create_task(self._watch(reader, connection))
        try:
            await (self.health if probe else self.script)(request, connection)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, reader, connection):
        """Set ``gone`` when the other side closes; a request is never sent ahead of its turn."""
        # Reading would take a byte of the next request, so this looks.
        while not reader.at_eof() and reader.exception() is None:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.005)
        connection.gone.set()
