"""The way to engines: HTTP/1.1 connections that are kept, at protocol level.

No task and no future per request: a connection tells the :class:`Asker` that it serves what comes,
as it comes. A task is made only to open a connection.
"""

import asyncio
import socket
from collections.abc import Mapping
from typing import Self
from urllib.parse import SplitResult, urlsplit

import httptools
import structlog

from services.router.core.attempts import Failure
from services.router.core.glance import CHUNK_HEAD
from services.router.core.job import Clock
from services.router.core.pattern import Pattern, pattern
from services.router.core.ports import Asker, Receiver

KEEP_ALIVE_S = 3.5
"""With a sweep's delay less than SGLang's 5 s, so that an idle connection is ours to close."""
TAIL_S = 1.0
"""How long an engine may take to end an answer of which nothing is needed any more."""
SWEEP_S = 0.5
ONE_WRITE = 64 * 2**10
"""A smaller request is written in one piece, a larger one without a copy of its body."""
_KEEP_ALIVE = {
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 25_000,
}
log = structlog.get_logger()
_OK = 200
_NO_HTTP = (httptools.HttpParserError, httptools.HttpParserUpgrade)
_BLANK = b"\r\n\r\n"


class EngineConnection(asyncio.Protocol):
    """One connection to an engine; ``asker`` is who it serves now, None while it is idle."""

    def __init__(self, engines: "Engines", idle: "list[EngineConnection]") -> None:
        self._engines, self._clock = engines, engines.clock
        self.idle = idle
        """Where it waits for its next request."""
        self._transport: asyncio.Transport = None  # type: ignore[assignment] # set when connected
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._part = b""
        self._complete = self._keep = self._surplus = False
        """``_surplus``: something came after the answer, which nobody may take for the next one."""
        self._uses = self._status = 0
        self._known: tuple[Pattern, Mapping[bytes, bytes]] | None = None
        """The head of the last plain answer here, and its headers."""
        self._asker: Asker | None = None
        self._receiver: Receiver | None = None
        self.heard = 0.0
        """When something last came or went, in monotonic seconds of the coarse clock."""

    # What an asker may do

    def send(self, asker: Asker, head: bytes, body: bytes) -> None:
        """Send a request whose answer goes to ``asker``."""
        self._asker = asker
        self._complete = False
        self._headers = {}
        self._uses += 1
        self.heard = self._clock.now
        if len(body) < ONE_WRITE:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def let_go(self, asker: Asker) -> None:
        """Need no more of this answer; the connection is kept if the engine ends it soon."""
        if self._asker is not asker:
            return
        self._asker = self._receiver = None
        if self._complete:
            self._keep_or_close()
        else:
            self.resume()
            self._engines.ending.add(self)

    def abort(self, asker: Asker) -> None:
        """Close at once: an engine notices only that its client is gone."""
        if self._asker is asker:
            self._asker = self._receiver = None
            self.close()

    def pause(self) -> None:
        """Read no more of the answer for now."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def closing(self) -> bool:
        """Tell whether it can carry no further request."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # uvloop's is none of asyncio's
        self._engines.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.heard = self._clock.now
        asker, receiver = self._asker, self._receiver
        try:
            if receiver is not None:
                self._parser.feed_data(data)
                if data.endswith(receiver.tail) and data.find(b"\n", CHUNK_HEAD) == len(data) - 4:
                    receiver.passed += len(data)
                    receiver.write(data)
                    return
                receiver.came(data)
                if self._complete:
                    self._completed(asker, receiver)
            elif asker is None:
                self._came_unasked(data)
            elif self._known is None or self._part or not self._fits(asker, data):
                self._came_first(asker, data)
        except _NO_HTTP as exc:
            self._broke(exc, asker, receiver, data)
        except Exception as exc:  # noqa: BLE001 - logged; a client must not wait for nothing
            self._crashed(asker, exc)

    def _fits(self, asker: Asker, data: bytes) -> bool:
        """Take an answer past the parser, if its head is known and all of it is there."""
        assert self._known is not None
        known, headers = self._known
        length, begin = known.fit(data)
        if not begin or len(data) - begin != length:
            return False
        self._keep = True
        self._whole(asker, headers, data[begin:])
        return True

    def _whole(self, asker: Asker, headers: Mapping[bytes, bytes], body: bytes) -> None:
        """Give an answer of which all is there; the connection is free before it is passed on."""
        self._asker = None
        self._keep_or_close()
        asker.answered_whole(headers, body)

    def _came_first(self, asker: Asker, data: bytes) -> None:
        """Take the beginning of an answer; the head need not be whole."""
        first = not self._part
        self._parser.feed_data(data)
        if first and self._complete and self._status == _OK and not self._surplus:
            self._came_whole(asker, data)
            return
        receiver = self._give(asker, data)
        if self._complete:
            self._completed(asker, receiver)

    def _came_whole(self, asker: Asker, data: bytes) -> None:
        """Take an answer that came in one piece, as nearly all do that are no slow streams."""
        if data[9:10] == b"1":  # an interim answer came with it
            self._completed(asker, self._give(asker, data))
            return
        body = data[data.find(_BLANK) + len(_BLANK) :]
        length = self._headers.get(b"content-length")
        if length is not None and len(body) > int(length):
            body, self._surplus = body[: int(length)], True
        elif length is not None and self._keep:
            found = pattern(data)
            self._known = None if found is None else (found, self._headers)
        self._whole(asker, self._headers, body)

    def _came_unasked(self, data: bytes) -> None:
        """Read on to the end of an answer that nobody needs any more; anything else is odd."""
        self._parser.feed_data(data)
        if self not in self._engines.ending:
            self.close()
        elif self._complete:
            self._engines.ending.discard(self)
            self._keep_or_close()

    def _broke(
        self, exc: Exception, asker: Asker | None, receiver: Receiver | None, data: bytes
    ) -> None:
        """What came is no HTTP; behind a whole answer that only costs the connection."""
        if not self._complete:
            self._break(f"the engine's answer is no HTTP ({type(exc).__name__})")
            return
        self._surplus = True
        if receiver is not None:
            receiver.came(data)
        elif asker is not None:
            receiver = self._give(asker, data)
        self._completed(asker, receiver)

    def connection_lost(self, exc: Exception | None) -> None:
        self._engines.connections.discard(self)
        self._engines.ending.discard(self)
        asker, receiver = self._asker, self._receiver
        self._asker = self._receiver = None
        self._parser = None  # type: ignore[assignment] # it refers to this connection
        if asker is None:
            if self in self.idle:
                self.idle.remove(self)
            return
        # The others that are kept may be as dead; a new one tells at once whether it is the engine.
        while self.idle:
            self.idle.pop().close()
        try:
            if receiver is not None and exc is None and not self._framed():
                receiver.ended()  # an answer without a length ends with its connection
            else:
                (receiver or asker).broke(self._failure(receiver), _broken_off(exc))
        except Exception as defect:  # noqa: BLE001 - as above
            self._crashed(asker, defect)

    # httptools

    def on_message_begin(self) -> None:
        if self._complete:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._surplus:
            self._headers[name.lower()] = value

    def on_message_complete(self) -> None:
        if self._complete:
            return
        if self._parser.get_status_code() < 200:  # an interim answer: 100 Continue
            self._headers = {}
            return
        self._complete, self._status = True, self._parser.get_status_code()
        self._keep = self._parser.should_keep_alive()  # later it would always be no

    # The rest

    def _crashed(self, asker: Asker | None, exc: Exception) -> None:
        """A defect of ours must not leave a client without an answer."""
        log.error("request.crashed", exc_info=exc)
        self.close()
        if asker is not None:
            asker.crashed()

    def _give(self, asker: Asker, data: bytes) -> Receiver | None:
        """Give the head of the answer, once it is whole, and what came after it."""
        data = self._part + data if self._part else data
        end = data.find(_BLANK) + len(_BLANK)
        while end >= len(_BLANK) and data[9:10] == b"1":  # an interim answer: 100 Continue
            data = data[end:]
            end = data.find(_BLANK) + len(_BLANK)
        if end < len(_BLANK):
            self._part = data
            return None
        self._part = b""
        status = self._status if self._complete else self._parser.get_status_code()
        receiver = self._receiver = asker.answered(status, self._headers)
        if len(data) > end and self._asker is asker:
            receiver.came(data[end:])
        return receiver

    def _framed(self) -> bool:
        return b"content-length" in self._headers or b"transfer-encoding" in self._headers

    def _failure(self, receiver: Receiver | None) -> Failure:
        return Failure.STALE if self._uses > 1 and receiver is None else Failure.BROKEN

    def _break(self, why: str) -> None:
        asker, receiver = self._asker, self._receiver
        self._asker = self._receiver = None
        self.close()
        if asker is not None:
            (receiver or asker).broke(Failure.BROKEN, why)

    def _completed(self, asker: Asker | None, receiver: Receiver | None) -> None:
        """The answer is whole: tell who still waits for it."""
        if self._asker is asker and receiver is not None:
            self._asker = self._receiver = None
            self._keep_or_close()
            receiver.ended()

    def _keep_or_close(self) -> None:
        if self._keep and not self._surplus and not self._transport.is_closing():
            self.idle.append(self)
        else:
            self.close()


class Engines:
    """Connections to all engines of this process.

    ``async with`` opens and closes it.
    """

    def __init__(self, *, connect_timeout_s: float, clock: Clock) -> None:
        self._connect_timeout_s = connect_timeout_s
        self.clock = clock
        self._idle: dict[str, list[EngineConnection]] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self.connections: set[EngineConnection] = set()
        self.ending: set[EngineConnection] = set()
        """Those that end an answer which nobody needs any more."""

    async def __aenter__(self) -> Self:
        self._sweeper = asyncio.create_task(self._sweep(), name="engine connections")
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._opening, *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self.connections):
            connection.close()
        await asyncio.sleep(0)  # transports close in the loop's next turn

    def send(self, asker: Asker, url: str, head: bytes, body: bytes) -> EngineConnection | None:
        """Send a request on a connection that is kept; None when there is none."""
        idle = self._idle.get(url)
        while idle:
            connection = idle.pop()
            if not connection.closing():
                connection.send(asker, head, body)
                return connection
        return None

    def open(self, asker: Asker, url: str, head: bytes, body: bytes) -> asyncio.Task[None]:
        """Send a request on a new connection, unless the task that does it is cancelled."""
        task = asyncio.create_task(self._open(asker, url, head, body), name="engine connection")
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return task

    async def _open(self, asker: Asker, url: str, head: bytes, body: bytes) -> None:
        idle = self._idle.setdefault(url, [])
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._connect(urlsplit(url), idle)
        except (OSError, TimeoutError, ValueError) as exc:
            asker.broke(Failure.NEVER_DELIVERED, f"no connection ({type(exc).__name__})")
            return
        connection.send(asker, head, body)
        asker.connected(connection)

    async def _connect(self, url: SplitResult, idle: list[EngineConnection]) -> EngineConnection:
        secure = url.scheme == "https"
        transport, connection = await asyncio.get_running_loop().create_connection(
            lambda: EngineConnection(self, idle),
            url.hostname or "",
            url.port or (443 if secure else 80),
            ssl=secure or None,
        )
        _notice_vanished_machines(transport.get_extra_info("socket"))
        return connection

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self.clock.now
            for idle in self._idle.values():
                while idle and idle[0].heard < now - KEEP_ALIVE_S:
                    idle.pop(0).close()
            for connection in [one for one in self.ending if one.heard < now - TAIL_S]:
                connection.close()
            self._forget_engines()

    def _forget_engines(self) -> None:
        """Drop the places of engines to which there is no connection any more."""
        used = {id(connection.idle) for connection in self.connections}
        for url in [url for url, idle in self._idle.items() if id(idle) not in used]:
            if not self._opening:
                del self._idle[url]


def _notice_vanished_machines(sock: socket.socket) -> None:
    """Let the socket notice within 25 s that the other machine has vanished.

    Without it a request that waits for its first byte there would wait for ever.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):  # not every system has them all
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _broken_off(exc: Exception | None) -> str:
    return f"the engine broke off ({type(exc).__name__})" if exc else "the engine closed"
