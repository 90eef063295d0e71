"""A lane without features, to hold the router against: ``python -m benchmarks.router.lean``.

    python -m benchmarks.router.lean --port 18080 \\
        --engine http://127.0.0.1:19001 --engine http://127.0.0.1:19002

A yardstick, not a router. It is built as the router's lane is, a subclass of uvicorn's connection
that answers ``POST /v1/chat/completions`` below ASGI over engine connections that are kept, and
does only what no router can do without: it looks up the key, reads the model, asks the engine with
the fewest requests in flight, and passes on what comes. No ASGI message is made for a request, and
a task only where a connection to an engine has to be opened. What the router takes more than this
is what its features cost.

It leaves out all else: errors that say something, timeouts, retries, limits, logs, metrics. An
answer is passed on unread, and its head has to come in one piece; of pipelined requests only the
first is answered here; an engine that is not there leaves its client waiting. So it must stand
before nothing but a benchmark, and whoever mends one of these makes it a worse yardstick.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec
import uvicorn
from litestar import Litestar, get
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from benchmarks.router.peers import HOST, KEY

MODEL = "fake"
ROUTES = frozenset({b"/v1/chat/completions"})
OTHER_KEYS = 500
"""So many besides the one that is used: a table as large as a platform's may be."""
TENANTS = {
    sha256(secret).digest(): f"tenant-{number}"
    for number, secret in enumerate(
        [KEY.encode(), *(b"sk-other-%d" % n for n in range(OTHER_KEYS))]
    )
}
"""Whose a key is, by its hash."""
ONE_WRITE = 64 * 2**10
"""A shorter body is written in one piece with its head, a longer one without a copy of it."""
REQUEST_HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: %b\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
)
REPLY = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
NOT_PASSED = (b"server", b"connection", b"keep-alive")
"""Headers of an engine's answer that are between it and us."""
BLANK = b"\r\n\r\n"


class Wanted(Struct):
    """What is read of a request's body."""

    model: str
    stream: bool = False


read = msgspec.json.Decoder(Wanted).decode


class Engine:
    """An engine, how many requests are in flight to it, and the connections kept to it."""

    __slots__ = ("authority", "host", "idle", "in_flight", "port")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or HOST, parts.port or 80
        self.authority = parts.netloc.encode()
        self.in_flight = 0
        self.idle: list[EngineConnection] = []


ENGINES: dict[str, list[Engine]] = {}
"""Who serves a model. The command line fills it; a global, as the shortest way there."""


def tenant_of(authorization: bytes) -> str | None:
    """Return whose key it is; None without a key that is known."""
    if authorization[:7] != b"Bearer ":
        return None
    return TENANTS.get(sha256(authorization[7:]).digest())


def least_loaded(engines: Sequence[Engine]) -> Engine:
    """Return the first of those with the fewest requests in flight."""
    best = engines[0]
    for engine in engines:
        if engine.in_flight < best.in_flight:
            best = engine
    return best


class EngineConnection(asyncio.Protocol):
    """One connection to an engine; it serves one exchange at a time, and none while it is idle."""

    __slots__ = (
        "_complete",
        "_engine",
        "_exchange",
        "_head",
        "_headers",
        "_keep",
        "_parser",
        "closed",
        "transport",
    )
    transport: asyncio.Transport

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._exchange: Exchange | None = None
        self.closed = False

    # What an exchange may do

    def ask(self, exchange: "Exchange", body: bytes) -> None:
        """Send a request whose answer goes to the client of ``exchange``."""
        self._exchange = exchange
        self._head = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._complete = False
        self._parser = httptools.HttpResponseParser(self)
        head = REQUEST_HEAD % (self._engine.authority, len(body))
        if len(body) < ONE_WRITE:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))

    def abandon(self) -> None:
        """Need no more of this answer: an engine notices that its client is gone."""
        self._exchange = None
        self._engine.in_flight -= 1
        self.transport.close()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] # uvloop's is none of asyncio's

    def connection_lost(self, _: Exception | None) -> None:
        self.closed = True  # it stays where it is kept until it is taken from there
        exchange = self._exchange
        if exchange is not None:
            self._exchange = None
            self._engine.in_flight -= 1
            exchange.break_off()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self.transport.close()
            return
        first = not self._head
        self._parser.feed_data(data)
        if first:
            exchange.transport.write(self._head + data[data.index(BLANK) + 4 :])
        else:
            exchange.transport.write(data)
        if self._complete:
            engine = self._engine
            self._exchange = self._parser = None  # type: ignore[assignment] # it refers to this
            engine.in_flight -= 1
            if self._keep:
                engine.idle.append(self)
            else:
                self.transport.close()
            exchange.end()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        lines = [b"HTTP/1.1 %d OK\r\n" % self._parser.get_status_code()]
        for name, value in self._headers:
            if name.lower() not in NOT_PASSED:
                lines.append(b"%b: %b\r\n" % (name, value))
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def on_message_complete(self) -> None:
        self._complete = True
        self._keep = self._parser.should_keep_alive()


class _NoEvent:
    """What uvicorn sets to wake a task; an exchange has none."""

    def set(self) -> None:
        """Wake nobody."""


class Exchange:
    """One request on the hot route and its answer, in the place of uvicorn's request cycle.

    ``response_complete``, ``keep_alive``, ``disconnected`` and ``message_event`` are what uvicorn
    expects of a request that its connection works on.
    """

    __slots__ = (
        "_authorization",
        "_client",
        "_opening",
        "body",
        "connection",
        "disconnected",
        "keep_alive",
        "response_complete",
        "transport",
    )
    message_event = _NoEvent()

    def __init__(self, client: "ClientConnection", authorization: bytes) -> None:
        self._client, self.transport = client, client.transport
        self._authorization, self.keep_alive = authorization, client.parser.should_keep_alive()
        self.body = b""
        self.response_complete = self.disconnected = False
        self.connection: EngineConnection | None = None

    def begin(self) -> None:
        """Choose an engine and ask it: the request is whole."""
        if tenant_of(self._authorization) is None:
            self._refuse(401)
            return
        body = self.body
        engines = ENGINES.get(read(body).model)
        if engines is None:
            self._refuse(404)
            return
        engine = least_loaded(engines)
        engine.in_flight += 1
        idle = engine.idle
        while idle:
            connection = idle.pop()
            if not connection.closed:
                self.connection = connection
                connection.ask(self, body)
                return
        self._opening = asyncio.ensure_future(self._ask_on_new(engine, body))

    async def _ask_on_new(self, engine: Engine, body: bytes) -> None:
        _, self.connection = await asyncio.get_running_loop().create_connection(
            lambda: EngineConnection(engine), engine.host, engine.port
        )
        self.connection.ask(self, body)

    def _refuse(self, status: int) -> None:
        self.transport.write(REPLY % status)
        self.end()

    def end(self) -> None:
        """The answer is written; the client's connection carries another request, or is closed."""
        self.connection, self.response_complete = None, True
        if not self.keep_alive:
            self.transport.close()
        self._client.on_response_complete()

    def break_off(self) -> None:
        """The engine is gone: let the client see it, as the answer may have begun."""
        self.connection, self.response_complete = None, True
        self.transport.close()

    def abandon(self) -> None:
        """The client is gone."""
        if self.connection is not None:
            self.connection.abandon()
            self.connection = None


class ClientConnection(HttpToolsProtocol):
    """One connection of a client; what is not for the lane goes to the ASGI application."""

    cycle: Any  # an Exchange, or uvicorn's

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.cycle.__class__ is Exchange:
            self.cycle.abandon()

    def pause_writing(self) -> None:
        super().pause_writing()
        connection = getattr(self.cycle, "connection", None)
        if connection is not None:
            connection.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        connection = getattr(self.cycle, "connection", None)
        if connection is not None:
            connection.transport.resume_reading()

    # httptools

    def on_message_begin(self) -> None:
        # uvicorn makes a scope here. One is made only when the head turns out to be for ASGI.
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self.scope = None  # type: ignore[assignment]

    def on_headers_complete(self) -> None:
        if (
            self.url in ROUTES
            and self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
        ):
            for name, value in self.headers:
                if name == b"authorization":
                    self.cycle = Exchange(self, value)
                    return
            self.cycle = Exchange(self, b"")
        else:
            url, headers, expect = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expect
            self.headers.extend(headers)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle.__class__ is Exchange:
            cycle.body = cycle.body + body if cycle.body else body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        cycle = self.cycle
        if cycle.__class__ is Exchange:
            cycle.begin()
        else:
            super().on_message_complete()


@get("/health", sync_to_thread=False)
def health() -> dict[str, str]:
    """Say that it is there: all that the ASGI application does."""
    return {"status": "ok"}


def main(arguments: Sequence[str]) -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.router.lean", description="A lane without features."
    )
    parser.add_argument("--port", type=int, required=True, help=f"on {HOST}")
    parser.add_argument(
        "--engine", action="append", required=True, metavar="URL", help="repeatable"
    )
    given = parser.parse_args(arguments)
    ENGINES[MODEL] = [Engine(url) for url in given.engine]
    uvicorn.run(
        Litestar([health], openapi_config=None, logging_config=None),
        host=HOST,
        port=given.port,
        loop="uvloop",
        http=ClientConnection,
        access_log=False,
        log_level="warning",
        backlog=4096,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
