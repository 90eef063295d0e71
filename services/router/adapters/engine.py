"""The way to engines: HTTP/1.1 connections that are kept, at protocol level.

No task and no future per request: a connection tells the :class:`Asker` that it serves what comes,
as it comes. A task is made only to open a connection.
"""

import asyncio
import socket
from typing import Self
from urllib.parse import SplitResult, urlsplit

import httptools
import structlog

from services.router.core.answer_head import NO_TAIL, AnswerHead
from services.router.core.attempts import Failure
from services.router.core.frames import CHUNK_HEAD, HEADS, SHORT
from services.router.core.glance import is_large_and_ends_well
from services.router.core.job import Clock
from services.router.core.pattern import Pattern, pattern
from services.router.core.ports import Asker, Receiver
from services.router.core.turn import Transport, Turn

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
_NO_HEAD = b"\0"
"""No answer begins so."""


class _Nowhere:
    """Where there is no client."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        """Drop ``data``."""


_NOWHERE = _Nowhere()


class Engine:
    """What is known of one engine."""

    __slots__ = ("idle", "keeps", "plain", "stream")

    def __init__(self) -> None:
        self.idle: list[EngineConnection] = []
        """Connections that wait for their next request; the last one was used last."""
        self.plain: tuple[Pattern, AnswerHead] | None = None
        """The head of its last answer that named its length, as bytes and what it says."""
        self.stream: tuple[bytes, AnswerHead | None] = (_NO_HEAD, None)
        """The same of its last answer that did not."""
        self.keeps = False
        """Whether it was seen to keep the connection after an answer with that head."""


class _Ends:
    """What a parser tells of a message whose head is known: only where it ends."""

    __slots__ = ("on_message_begin", "on_message_complete")

    def __init__(self, connection: "EngineConnection") -> None:
        self.on_message_begin = connection.on_known_begin
        self.on_message_complete = connection.on_message_complete


class _Passing(asyncio.Protocol):
    """All that an ordinary piece of a stream meets, side by side in memory.

    Between two pieces of one stream come those of hundreds of others, so each line of the
    processor's cache that a piece needs is fetched from far away: that is most of what it costs.
    """

    __slots__ = ("_passed", "_tail", "_to", "_turn")

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._tail = NO_TAIL
        self._to: Transport = _NOWHERE
        self._passed = 0
        """Bytes that went ``_to`` the client."""


class EngineConnection(_Passing):
    """One connection to an engine; ``asker`` is who it serves now, None while it is idle."""

    __slots__ = (
        "_asker",
        "_clock",
        "_complete",
        "_engines",
        "_full",
        "_head",
        "_headers",
        "_heard",
        "_in_head",
        "_keep",
        "_parser",
        "_part",
        "_paused",
        "_quick",
        "_receiver",
        "_seen",
        "_status",
        "_surplus",
        "_transport",
        "_uses",
        "engine",
    )

    def __init__(self, engines: "Engines", engine: Engine) -> None:
        super().__init__(engines.turn)
        self._engines, self._clock = engines, engines.clock
        self.engine = engine
        self._transport: asyncio.Transport = None  # type: ignore[assignment] # set when connected
        self._full = httptools.HttpResponseParser(self)
        self._quick = httptools.HttpResponseParser(_Ends(self))
        """Reads answers whose heads are known: it tells of no header."""
        self._parser = self._full
        """The one that reads the answer that comes now."""
        self._headers: dict[bytes, bytes] = {}
        self._in_head = False
        self._head: AnswerHead | None = None
        """That of the answer that comes now, once it is known."""
        self._part = b""
        self._complete = self._keep = self._surplus = self._paused = False
        """``_surplus``: something came after the answer, which nobody may take for the next one."""
        self._uses = self._status = 0
        self._asker: Asker | None = None
        self._receiver: Receiver | None = None
        self._seen = 0
        """What ``_passed`` was when somebody looked last."""
        self._heard = 0.0
        """When something else came or went, by the coarse clock."""

    # What an asker may do

    def send(self, asker: Asker, head: bytes, body: bytes) -> None:
        """Send a request whose answer goes to ``asker``."""
        self._asker = asker
        self._complete = False
        self._parser, self._head = self._full, None
        self._uses += 1
        self._heard = self._clock.now
        if len(body) < ONE_WRITE:
            self._turn.write(self._transport, head + body)
        else:
            self._turn.write(self._transport, head)
            self._turn.write(self._transport, body)

    def let_go(self, asker: Asker) -> None:
        """Need no more of this answer; the connection is kept if the engine ends it soon."""
        if self._asker is not asker:
            return
        self._leave()
        if self._complete:
            self._keep_or_close()
        else:
            self._read_on()
            self._engines.ending.add(self)

    def abort(self, asker: Asker) -> None:
        """Close at once: an engine notices only that its client is gone."""
        if self._asker is asker:
            self._leave()
            self.close()

    def pause(self, asker: Asker) -> None:
        """Read no more of the answer for now."""
        if self._asker is asker and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self, asker: Asker) -> None:
        """Read on."""
        if self._asker is asker:
            self._read_on()

    def heard(self, now: float) -> float:
        """Return when something last came or went, as far as was asked at the time."""
        if self._passed != self._seen:
            self._seen, self._heard = self._passed, now
        return self._heard

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
        turn = self._turn
        if turn.due:
            turn.came(self, data)
        else:
            self.take(data)

    def take(self, data: bytes) -> None:
        """Work on what was received."""
        size = len(data)
        if (
            data.endswith(self._tail)
            and size < SHORT
            and data.startswith(HEADS[size])
            and data.find(b"\n", CHUNK_HEAD) == size - 4
        ):
            self._passed += size
            turn = self._turn
            if turn.due:
                turn.out.append((self._to, data))
            else:
                self._to.write(data)
        else:
            self._came(data)

    def _came(self, data: bytes) -> None:
        """Take a piece that is no ordinary one of a stream."""
        self._heard = self._clock.now
        asker, receiver = self._asker, self._receiver
        try:
            if receiver is not None:
                self._parser.feed_data(data)
                self._pass(receiver, data)
                if self._complete:
                    self._completed(asker)
            elif asker is None:
                self._came_unasked(data)
            elif self._part or not self._fits(asker, data):
                self._came_first(asker, data)
        except _NO_HTTP as exc:
            self._broke(exc, asker, data)
        except Exception as exc:  # noqa: BLE001 - logged; a client must not wait for nothing
            self._crashed(asker, exc)

    def _pass(self, receiver: Receiver, data: bytes) -> None:
        """Give more of the body; what follows may be like it."""
        receiver.came(data)
        if self._receiver is receiver:
            self._tail = receiver.tail

    def _leave(self) -> None:
        """Serve nobody."""
        if self._passed and self._receiver is not None:
            self._receiver.passed += self._passed
        self._passed = self._seen = 0
        self._asker = self._receiver = None
        self._tail, self._to = NO_TAIL, _NOWHERE

    def _fits(self, asker: Asker, data: bytes) -> bool:
        """Take an answer past the parser, if its head is known and all of it is there."""
        known, head = self.engine.stream
        if head is not None and data.startswith(known):
            if not (self.engine.keeps and is_large_and_ends_well(data)):
                self._parser, self._head = self._quick, head
                return False
            self._keep = True
            self._whole(asker, head, data[len(known) :])
            return True
        if self.engine.plain is None:
            return False
        like, head = self.engine.plain
        length, begin = like.fit(data)
        if not begin or len(data) - begin != length:
            return False
        self._keep = True
        self._whole(asker, head, data[begin:])
        return True

    def _whole(self, asker: Asker, head: AnswerHead, body: bytes) -> None:
        """Give an answer of which all is there; the connection is free before it is passed on."""
        self._asker = None
        self._keep_or_close()
        asker.answered_whole(head, body)

    def _came_first(self, asker: Asker, data: bytes) -> None:
        """Take the beginning of an answer; the head need not be whole."""
        first = not self._part
        self._parser.feed_data(data)
        if first and self._complete and self._status == _OK and not self._surplus:
            self._came_whole(asker, data)
            return
        self._give(asker, data)
        if self._complete:
            self._completed(asker)

    def _came_whole(self, asker: Asker, data: bytes) -> None:
        """Take an answer that came in one piece, as nearly all do that are no slow streams."""
        if data[9:10] == b"1":  # an interim answer came with it
            self._give(asker, data)
            self._completed(asker)
            return
        begin = data.find(_BLANK) + len(_BLANK)
        body = data[begin:]
        head = self._head or self._read_head(_OK, data[:begin])
        length = head.length
        if length is None:
            self.engine.keeps = self._keep
        elif len(body) > length:
            body, self._surplus = body[:length], True
        elif self._keep:
            found = pattern(data)
            self.engine.plain = None if found is None else (found, head)
        self._whole(asker, head, body)

    def _read_head(self, status: int, data: bytes) -> AnswerHead:
        """Return what the head that came as ``data`` says; one without a length is remembered."""
        head = self._head = AnswerHead(status, self._headers)
        if status == _OK and head.length is None:
            self.engine.stream, self.engine.keeps = (data, head), False
        return head

    def _came_unasked(self, data: bytes) -> None:
        """Read on to the end of an answer that nobody needs any more; anything else is odd."""
        self._parser.feed_data(data)
        if self not in self._engines.ending:
            self.close()
        elif self._complete:
            self._engines.ending.discard(self)
            self._keep_or_close()

    def _broke(self, exc: Exception, asker: Asker | None, data: bytes) -> None:
        """What came is no HTTP; behind a whole answer that only costs the connection."""
        if not self._complete:
            self._break(f"the engine's answer is no HTTP ({type(exc).__name__})")
            return
        self._surplus = True
        if self._receiver is not None:
            self._pass(self._receiver, data)
        elif asker is not None:
            self._give(asker, data)
        self._completed(asker)

    def connection_lost(self, exc: Exception | None) -> None:
        self._engines.connections.discard(self)
        self._engines.ending.discard(self)
        asker, receiver = self._asker, self._receiver
        self._leave()
        self._parser = self._full = self._quick = None  # type: ignore[assignment] # they refer to it
        idle = self.engine.idle
        if asker is None:
            if self in idle:
                idle.remove(self)
            return
        # The others that are kept may be as dead; a new one tells at once whether it is the engine.
        while idle:
            idle.pop().close()
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
        else:
            self._in_head, self._headers = True, {}

    def on_known_begin(self) -> None:
        """Take the beginning of a message of which the quick parser tells."""
        if self._complete:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes after a body, in a trailer, is no header
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_message_complete(self) -> None:
        if self._complete:
            return
        parser = self._parser
        status = parser.get_status_code()
        if status >= 200:  # else an interim answer: 100 Continue
            self._complete, self._status = True, status
            self._keep = parser.should_keep_alive()  # later it would always be no

    # The rest

    def _crashed(self, asker: Asker | None, exc: Exception) -> None:
        """A defect of ours must not leave a client without an answer."""
        log.error("request.crashed", exc_info=exc)
        self.close()
        if asker is not None:
            asker.crashed()

    def _give(self, asker: Asker, data: bytes) -> None:
        """Give the head of the answer, once it is whole, and what came after it."""
        data = self._part + data if self._part else data
        end = data.find(_BLANK) + len(_BLANK)
        while end >= len(_BLANK) and data[9:10] == b"1":  # an interim answer: 100 Continue
            data = data[end:]
            end = data.find(_BLANK) + len(_BLANK)
        if end < len(_BLANK):
            self._part = data
            return
        self._part = b""
        status = self._status if self._complete else self._parser.get_status_code()
        head = self._head or self._read_head(status, data[:end])
        receiver = asker.answered(head)
        if self._asker is asker:
            self._receiver, self._to = receiver, receiver.to
            if len(data) > end:
                self._pass(receiver, data[end:])

    def _framed(self) -> bool:
        return self._head is not None and self._head.framed

    def _failure(self, receiver: Receiver | None) -> Failure:
        return Failure.STALE if self._uses > 1 and receiver is None else Failure.BROKEN

    def _break(self, why: str) -> None:
        asker, receiver = self._asker, self._receiver
        self._leave()
        self.close()
        if asker is not None:
            (receiver or asker).broke(Failure.BROKEN, why)

    def _completed(self, asker: Asker | None) -> None:
        """The answer is whole: tell who still waits for it."""
        receiver = self._receiver
        if self._asker is asker and receiver is not None:
            self._leave()
            self._keep_or_close()
            receiver.ended()

    def _read_on(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _keep_or_close(self) -> None:
        """Wait for the next request. Who asked last may have paused this with its last bytes."""
        if self._keep and not self._surplus and not self._transport.is_closing():
            self._read_on()
            self.engine.idle.append(self)
        else:
            self.close()


class Engines:
    """Connections to all engines of this process.

    ``async with`` opens and closes it.
    """

    def __init__(self, *, connect_timeout_s: float, clock: Clock, turn: Turn) -> None:
        self._connect_timeout_s = connect_timeout_s
        self.clock, self.turn = clock, turn
        self._by_url: dict[str, Engine] = {}
        """By URL."""
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
        engine = self._by_url.get(url)
        idle = () if engine is None else engine.idle
        while idle:
            connection = idle.pop()
            if not connection.closing():
                connection.send(asker, head, body)
                return connection
        return None

    def engine(self, url: str) -> Engine:
        """Return the one engine at ``url``."""
        return self._by_url.get(url) or self._by_url.setdefault(url, Engine())

    def open(self, asker: Asker, url: str, head: bytes, body: bytes) -> asyncio.Task[None]:
        """Send a request on a new connection, unless the task that does it is cancelled."""
        task = asyncio.create_task(self._open(asker, url, head, body), name="engine connection")
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return task

    async def _open(self, asker: Asker, url: str, head: bytes, body: bytes) -> None:
        engine = self.engine(url)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._connect(urlsplit(url), engine)
        except (OSError, TimeoutError, ValueError) as exc:
            asker.broke(Failure.NEVER_DELIVERED, f"no connection ({type(exc).__name__})")
            return
        connection.send(asker, head, body)
        asker.connected(connection)

    async def _connect(self, url: SplitResult, engine: Engine) -> EngineConnection:
        secure = url.scheme == "https"
        transport, connection = await asyncio.get_running_loop().create_connection(
            lambda: EngineConnection(self, engine),
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
            for idle in [engine.idle for engine in self._by_url.values()]:
                while idle and idle[0].heard(now) < now - KEEP_ALIVE_S:
                    idle.pop(0).close()
            for connection in [one for one in self.ending if one.heard(now) < now - TAIL_S]:
                connection.close()
            self._forget_engines()

    def _forget_engines(self) -> None:
        """Drop the engines to which there is no connection any more."""
        used = {id(connection.engine) for connection in self.connections}
        for url in [url for url, engine in self._by_url.items() if id(engine) not in used]:
            if not self._opening:
                del self._by_url[url]


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
