"""The fast lane: one client connection, below ASGI.

A subclass of uvicorn's connection that answers ``POST`` on the hot routes itself, with an
:class:`Exchange` in the place of uvicorn's ``RequestResponseCycle``. Everything else on the same
connection goes to Litestar, as uvicorn does it: keep-alive and pipelining are the same for both.
No scope, no list of headers and no task is made for a request on a hot route.

This is the one file that knows uvicorn from the inside. What it needs of it:

======================== ========================================================================
``HttpToolsProtocol``    ``parser``, ``transport``, ``flow``, ``loop``, ``client``, ``url``,
                         ``headers``, ``scope``, ``expect_100_continue``, ``cycle``, ``pipeline``,
                         ``server_state.total_requests``, ``timeout_keep_alive``,
                         ``timeout_keep_alive_task``
its callbacks            ``on_message_begin`` sets up a scope, ``on_headers_complete`` makes a cycle
                         and starts it or appends it to the left of ``pipeline``;
                         ``on_response_complete`` ends one; ``_start_asgi_task`` starts one
a cycle                  ``response_complete``, ``keep_alive``, ``disconnected``,
                         ``message_event.set()``; ``shutdown`` and ``connection_lost`` use them
``FlowControl``          ``write_paused``, ``pause_reading``, ``resume_reading``
======================== ========================================================================

``tests/unit/router/test_uvicorn.py`` fails when a release changes any of it.
"""

import asyncio
import re
from typing import Any, cast

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.router.api.exchange import Exchange
from services.router.api.head import Head
from services.router.api.shared import Shared
from services.router.core import http
from services.router.core.dialects import DEFAULT, DIALECTS
from services.router.core.errors import (
    BadRequestError,
    HeadersTooLargeError,
    HttpRefusal,
    SlowBodyError,
    headers_of,
)
from services.router.core.pattern import Known, Pattern
from services.router.core.story import REFUSED, Story

UVICORN = "0.54.0"
"""The release that this was written against."""
HEAD_LIMIT = 64 * 2**10
IDLE_S = 30.0
"""How long a connection may be silent inside a request's head, or before its first one."""
DISCARD_LIMIT = 2**30
"""So much of a body is read on after its request was refused, so that the client can read why."""
LINGER_S = 2.0
UNLIKE = 8
"""After so many heads in a row that nobody knew, a connection looks no more."""
SWEEPS = 4
"""How often, at least, the shortest patience is looked after while it lasts."""
_SLASHES = re.compile(rb"//+")
log = structlog.get_logger()


class Lane:
    """All client connections of a process, and the clock that they are looked after by."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.clock = shared, shared.clock
        self.connections: set[ClientConnection] = set()
        self.heads: Known[Head] = Known()
        """Of all connections."""

    def connection(self, *args: Any, **kwargs: Any) -> "ClientConnection":  # noqa: ANN401 - uvicorn's
        """Make a connection: what uvicorn is given as ``http``."""
        return ClientConnection(self, *args, **kwargs)

    async def look_after(self) -> None:
        """Look at every connection about once a second until cancelled."""
        patience = self.shared.patience
        shortest_s = min(
            patience.first_byte_s, patience.between_s, patience.body_s, patience.client_s
        )
        every_s = min(1.0, shortest_s / SWEEPS)
        while True:
            await asyncio.sleep(every_s)
            now = self.shared.chances.monotonic()
            self.clock.set_on(now, every_s)
            self.shared.budget.look(now)
            for connection in list(self.connections):
                connection.look(self.clock.now)

    def stop(self) -> None:
        """End what is under way so that nothing looks complete that is not."""
        for connection in list(self.connections):
            connection.stop()


class ClientConnection(HttpToolsProtocol):
    """One connection of a client. Bounds of heads and silence hold for every request on it."""

    # Together with uvicorn's they would be more than the 30 names for which CPython lets the
    # dictionaries of one class share a table.
    __slots__ = (
        "_active",
        "_between",
        "_clock",
        "_closed",
        "_discarded",
        "_ended",
        "_head_size",
        "_heads",
        "_heard",
        "_hot",
        "_in_head",
        "_known",
        "_lane",
        "_left",
        "_long",
        "_offer",
        "_patience",
        "_received",
        "_starting",
        "_turn",
        "_unsent",
        "_unsent_since",
        "address",
    )

    def __init__(self, lane: Lane, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **kwargs)
        self._lane, self._clock, self._turn = lane, lane.clock, lane.shared.turn
        self._received: dict[bytes, bytes] = {}
        """The header that is being read; the first of several with one name counts."""
        self._known: tuple[Pattern, Head] | None = None
        """The last ordinary head on this connection."""
        self._between = True
        """Whether the parser is between two requests."""
        self._patience = UNLIKE
        """How many unknown heads may still come before nobody looks any more."""
        self._left = 0
        """Bytes of a body that still come, of a request with that head."""
        self._in_head = self._long = False
        self._head_size = 0
        """Bytes of a head that is not whole yet."""
        self._heads = 0
        """How many there were in the bytes that the parser got last."""
        self._hot: Exchange | None = None
        """The exchange whose request is being read, or was read last."""
        self._active: Exchange | None = None
        """The one that is being answered; of several pipelined requests the first."""
        self._offer = b""
        """The method of a request that offers to upgrade; empty where there is no offer."""
        self._ended = False
        """Whether an answer has said that it is the last one."""
        self._closed = False
        """Whether nothing more is read; what was read may still be answered."""
        self._starting = False
        self._discarded = 0
        self._heard = lane.clock.now
        self._unsent, self._unsent_since = 0, 0.0
        self.address = ""
        self.url = b""

    # asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._lane.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lane.connections.discard(self)
        if self._active is not None:
            self._active.gone()
        super().connection_lost(exc)
        self.pipeline.clear()
        # They refer to this connection, and it to them.
        self.cycle = self._hot = self._active = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        turn = self._turn
        if turn.due:
            turn.came(self, data)
        else:
            self.take(data)

    def eof_received(self) -> None:
        self._turn.run()  # what was asked is answered before the connection is closed
        super().eof_received()

    def shutdown(self) -> None:
        self._turn.run()  # an idle connection is closed at once
        super().shutdown()

    def take(self, data: bytes) -> None:
        """Work on what was received."""
        if self._closed:
            return
        self._heard = self._clock.now
        if len(data) > HEAD_LIMIT:
            self._long = True
        try:
            while data and not self._closed:
                data = self._take_next(data)
        except Exception as exc:  # noqa: BLE001 - logged; a client must not wait for nothing
            self._crashed(exc)

    def _take_next(self, data: bytes) -> bytes:
        """Take what comes next; return what is left of ``data``, as requests may be pipelined."""
        if self._left:
            return self._more(data)
        if self._between and (self.cycle is None or self.cycle.response_complete):
            known = self._known
            length, begin = (0, 0) if known is None else known[0].fit(data)
            if not begin and self._patience:
                known = self._known = self._lane.heads.find(data)
                length, begin = (0, 0) if known is None else known[0].fit(data)
            if known is not None and begin:
                return self._begin(known[1], length, data[begin:])
        self._parse(data)
        return b""

    def _parse(self, data: bytes) -> None:
        between, self._heads = self._between, 0
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._without_upgrade(data[exc.args[0] :])
        except httptools.HttpParserCallbackError as exc:
            self._crashed(exc)
        except httptools.HttpParserError:
            self._refuse_head()
        if self._in_head:
            self._look_at_part(len(data))
        elif between and self._heads == 1 and self._hot is not None and self._patience:
            self._patience -= 1
            self._know(self._hot.head, data)

    def _know(self, head: Head, data: bytes) -> None:
        """Remember the one head in ``data``, which begins with it, if it is an ordinary one."""
        ordinary = not head.special and head.length is not None and head.chunks
        self._known = self._lane.heads.add(data, head) if ordinary else None

    def _begin(self, head: Head, length: int, data: bytes) -> bytes:
        """Begin with a request whose head is known, past the parser; return what follows it."""
        self._patience = UNLIKE
        hot = Exchange(self._lane.shared, self, head, length)
        self.cycle = self._hot = self._active = hot  # type: ignore[assignment] # as uvicorn's
        if len(data) == length:
            hot.take(data)
            hot.begin()
            hot.whole()
            return b""
        self._left = length
        hot.begin()
        return self._more(data)

    def _more(self, data: bytes) -> bytes:
        """Take more of the body of a request that went past the parser; return what follows it."""
        hot, left = self._hot, self._left
        assert hot is not None
        self._left = max(0, left - len(data))
        body = data if len(data) <= left else data[:left]
        if hot.response_complete:
            self._discard(len(body))
        else:
            hot.take(body)
        if not self._left:
            hot.whole()
        return data[left:]

    def _look_at_part(self, size: int) -> None:
        """Bound a head that comes in parts; of the first one it is not known how much is its."""
        self._head_size += size if self._long else 0
        self._long = True
        if self._head_size > HEAD_LIMIT or len(self.url) > HEAD_LIMIT:
            self._refuse(_head_too_large())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent_since = self._lane.shared.chances.monotonic()
        self._unsent = self.transport.get_write_buffer_size()
        if self._active is not None:
            self._active.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._active is not None:
            self._active.resume()

    # httptools

    def on_message_begin(self) -> None:
        self.url, self._in_head, self._between = b"", True, False
        self._received = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what comes after a body, in a trailer, is no header
            self._received.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._heads += 1
        parser = self.parser
        if self._closed:
            raise ValueError("the connection is closed")  # the parser stops; see _crashed
        if self._long:
            self._check_head()
        if parser.should_upgrade():
            self._offer = parser.get_method()
            return
        route = _ROUTES.get(self.url) or self._odd_route()
        if route is not None and parser.get_method() == b"POST":
            self._to_lane(route)
        else:
            self._to_litestar()

    def on_body(self, body: bytes) -> None:
        hot = self._hot
        if hot is None:
            super().on_body(body)
            over = self.cycle.response_complete
        else:
            hot.take(body)
            over = hot.response_complete
        if over:
            self._discard(len(body))

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > DISCARD_LIMIT:
            self.transport.close()

    def on_message_complete(self) -> None:
        if self._offer:
            return
        self._between = True
        if self._hot is None:
            super().on_message_complete()
        else:
            self._hot.whole()

    # The two ways

    def _odd_route(self) -> str | None:
        """Return the hot route that is asked for in another form, if it is one."""
        path = _SLASHES.sub(b"/", self.url.partition(b"?")[0]).rstrip(b"/")
        return _ROUTES.get(path)

    def _to_lane(self, route: str) -> None:
        modern = self.parser.get_http_version() != "1.0"
        keep_alive = modern and self.parser.should_keep_alive()
        head = Head(route, self._received, keep_alive=keep_alive, chunks=modern)
        hot = Exchange(self._lane.shared, self, head, head.length)
        before, self.cycle, self._hot = self.cycle, cast(Any, hot), hot
        if before is None or before.response_complete:
            self._active = hot
            hot.begin()
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cast(Any, hot), self.app))

    def _to_litestar(self) -> None:
        self._hot = None
        url, headers = self.url, self._received
        super().on_message_begin()  # makes the scope
        self.url = url
        self.headers.extend(headers.items())
        self.expect_100_continue = headers.get(b"expect", b"").lower() == b"100-continue"
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:  # noqa: ANN401 - uvicorn's
        """Start the next of several pipelined requests, whichever way it goes."""
        if isinstance(cycle, Exchange):
            self._active = cycle
            cycle.begin()
        else:
            super()._start_asgi_task(cycle, app)

    # What an exchange needs

    def answered(self, *, keep: bool) -> None:
        self._active = None
        if not keep:
            self._end()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._heard, self._discarded = self._clock.now, 0
        if self._ended or self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline and not self._starting:
            self._start_waiting()

    def _start_waiting(self) -> None:
        """Start the next pipelined request, and those after it as long as each is answered at once.

        In a loop: a client may have sent more refused ones together than calls can be nested.
        """
        self._starting, over = True, True
        while self.pipeline and over and not self._ended:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            over = cycle.response_complete
        self._starting = False

    # The clock

    def look(self, now: float) -> None:
        """Give up who has been silent for too long."""
        if self.transport.is_closing():
            return
        if self.flow.write_paused and self._reads_nothing(now):
            self.transport.abort()
        elif self._active is not None:
            self._active.look(now, self._heard)
        elif self.cycle is not None and not self.cycle.response_complete:
            return  # Litestar's
        elif self._in_head and now - self._heard > IDLE_S:
            self._refuse(SlowBodyError("The request did not come to its end. Send it again."))
        elif now - self._heard > (IDLE_S if self.cycle is None else self.timeout_keep_alive):
            self.transport.close()

    def _reads_nothing(self, now: float) -> bool:
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        return now - self._unsent_since >= self._lane.shared.patience.client_s

    def stop(self) -> None:
        """The router stops, and does not wait any longer."""
        if self._active is not None:
            self._active.stop()
        self._turn.flush()
        self.transport.close()

    # Refusals below any route

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says it better
        self._refuse_head()

    def _check_head(self) -> None:
        self._head_size = len(self.url) + sum(
            len(n) + len(v) + 4 for n, v in self._received.items()
        )
        if self._head_size > HEAD_LIMIT:
            raise ValueError("the head is too large")  # the parser stops; see _crashed
        self._head_size, self._long = 0, False

    def _refuse_head(self) -> None:
        if self._head_size > HEAD_LIMIT:
            self._refuse(_head_too_large())
        else:
            self._refuse(BadRequestError("This is no HTTP/1.1 request that can be read."))

    def _crashed(self, exc: Exception) -> None:
        """A callback of the parser has failed: it stops there, and so does the connection."""
        if self._closed:
            return
        if self._head_size > HEAD_LIMIT:
            self._refuse(_head_too_large())
            return
        log.error("request.crashed", path=self.url[:200].decode("latin-1"), exc_info=exc)
        if self._active is not None:
            self._active.keep_alive = False
            self._active.crashed()
        else:
            self.transport.abort()

    def _refuse(self, refusal: HttpRefusal) -> None:
        """Answer below any route and end the connection, with time for the client to read why."""
        self._closed = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False  # an answer is under way: nothing may be written into it
            return
        request_id = self._lane.shared.new_id()
        body = DEFAULT.envelope(refusal, request_id)
        headers = [
            *headers_of(refusal),
            *http.common(request_id, 0.0, origin=True),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        self._turn.write(
            self.transport,
            b"%b%b\r\n%b" % (http.status_line(refusal.status), http.lines(headers), body),
        )
        self._end(linger=True)
        self._tell(refusal, request_id)

    def _end(self, *, linger: bool = False) -> None:
        """Close. Who still sends gets time to read why not: a reset would take that from it."""
        self._closed = self._ended = True
        self._turn.flush()
        if not linger and self._between and not self._left:
            self.transport.close()
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)

    def _tell(self, refusal: HttpRefusal, request_id: str) -> None:
        now = self._lane.shared.chances.monotonic()
        story = Story(
            request_id=request_id,
            method="",
            path=self.url[:200].decode("latin-1"),
            client=self.address,
            began=now,
            status=refusal.status,
            code=refusal.problem.code,
            outcome=REFUSED,
            why=refusal.problem.message,
            answered=now,
        )
        self._lane.shared.telling.ended(story, now)

    def _without_upgrade(self, rest: bytes) -> None:
        """Read a request again without its offer to upgrade; ``rest`` is what follows its head.

        Java's client makes one with every request. To the parser, what follows would be another
        protocol's.
        """
        if self._offer == b"CONNECT":
            self._refuse_head()
            return
        names = {b"upgrade", b"http2-settings"}
        kept = [pair for pair in self._received.items() if pair[0] not in names]
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (self._offer, self.url, http.lines(kept))
        self._offer, self._between = b"", True
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._in_head = False
        self.take(head + rest)


def _head_too_large() -> HeadersTooLargeError:
    return HeadersTooLargeError(f"The request's head is larger than {HEAD_LIMIT} bytes.")


_ROUTES = {route.encode(): route for route in DIALECTS}
