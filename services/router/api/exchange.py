"""One request on a hot route, from its head to the end of its answer: the client's side.

::

                key refused, body too large …
         ┌───────────────────────────────────────────────────────┐
         │            model unknown …                            │
         │           ┌───────────────────────────────────────────┤
         │           │              no instance has answered     ▼
     READING ──▶ LOOKING ──▶ ASKING ──▶ ANSWERING ──▶ OVER ◀── (refused)
        the body is  the target   first byte   last byte,
        whole        is known                  or broken off

In every state the client may go: then it is OVER at once, and so is the engine's connection.
Where a view lacks a key or a deployment, a request stays in READING or LOOKING while the bucket is
asked. ASKING is :class:`Asking`'s business, which may try several instances. ``_over`` is the one
place where a request ends: counts are given back there, and its story is told.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import structlog

from caravan.contracts.errors import Refusal
from caravan.contracts.keys import KeyEntry
from services.router.api.asking import Asking
from services.router.api.head import Head
from services.router.api.shared import Shared
from services.router.core import admission, asked, http
from services.router.core.candidates import Target
from services.router.core.errors import InternalError, SlowBodyError, headers_of
from services.router.core.inflight import Load
from services.router.core.story import CANCELLED, COMPLETE, FAILED, REFUSED, Story, why
from services.router.core.turn import Transport

READING, LOOKING, ASKING, ANSWERING, OVER = range(5)
ONE_WRITE = 64 * 2**10
"""A shorter body is written in one piece with its head."""

T = TypeVar("T")
log = structlog.get_logger()


class Flow(Protocol):
    """What is known of a client's reading."""

    @property
    def write_paused(self) -> bool:
        """Whether it reads too slowly for what was written."""


class Client(Protocol):
    """The connection that a request came on."""

    transport: asyncio.Transport
    address: str

    @property
    def flow(self) -> Flow: ...

    def answered(self, *, keep: bool) -> None:
        """The answer is written; ``keep``: the connection carries another request."""


class _NoEvent:
    """What uvicorn sets to wake a task; an exchange has none."""

    def set(self) -> None:
        """Wake nobody."""


class Exchange:
    """See the states above. ``begin``, ``take`` and ``whole`` feed it its request.

    ``response_complete``, ``keep_alive``, ``disconnected`` and ``message_event`` are what uvicorn
    expects of a request that its connection works on; see the lane.
    """

    response_complete = False
    """Whether it is OVER."""
    disconnected = False
    message_event = _NoEvent()

    state = READING
    body = b""
    """The whole body, expanded, while an instance may still be asked for an answer."""
    trace = b""
    """The header line ``traceparent``, or nothing."""
    show_usage = False
    sent = 0
    """Bytes of the answer's body."""
    story: Story
    _begun = _continued = _whole = False
    _collect: asked.Plain | asked.Gzipped | None = None
    _key: KeyEntry | None = None
    _load: Load | None = None
    _asking: Asking | None = None
    _looking: asyncio.Task[None] | None = None

    def __init__(self, shared: Shared, client: Client, head: Head, length: int | None) -> None:
        """Take a request with ``head``; its body has ``length`` bytes, if that is known."""
        self._shared, self._client, self.head, self._length = shared, client, head, length
        self.route, self.dialect, self.chunks = head.route, head.dialect, head.chunks
        self.keep_alive = head.keep_alive
        self.to: Transport = client.transport
        self._pieces: list[bytes] = []

    # The request

    def begin(self) -> None:
        """Look at the head. The body follows, unless this request had to wait for its turn."""
        head, shared = self.head, self._shared
        self._begun = True
        story = self.story = Story(
            request_id=head.request_id or shared.new_id(),
            method="POST",
            path=head.route,
            route=head.route,
            client=self._client.address,
            began=shared.chances.monotonic(),
            origin=head.origin,
        )
        try:
            key = self._key = shared.gate.known_key(head.secret, head.digest, head.dialect.no_key)
            if key is None:
                gate, address = shared.gate, self._client.address
                self._look(lambda: gate.asked_key(head.digest, address), self._got_key)
            else:
                story.key = key.id
            if self._length is None or self._length > shared.body_limit or head.special:
                self._check_head()
            if self._collect is not None and self._pieces:
                self._measure()
        except Refusal as refusal:
            self.refuse(refusal)
        if self._whole:
            self.whole()

    def _check_head(self) -> None:
        headers, limit = self.head.headers, self._shared.body_limit
        if self._length is None:
            self._collect = asked.Plain(limit)
        elif self._length > limit:
            raise asked.too_large(limit)
        if b"content-encoding" in headers:
            encoding = headers[b"content-encoding"].decode("latin-1")
            self._collect = asked.collector(encoding, limit)
        if self.chunks and headers.get(b"expect", b"").lower() == b"100-continue":
            self._continued = True
            self._shared.turn.write(self.to, b"HTTP/1.1 100 Continue\r\n\r\n")

    def take(self, data: bytes) -> None:
        """Take a piece of the body; it is dropped where the request is refused already."""
        if self.state == READING:
            self._pieces.append(data)
            if self._collect is not None and self._begun:
                self._try(self._measure)

    def _measure(self) -> None:
        """Expand what has come of the body; refuse more than the limit."""
        if self._collect is not None:
            for piece in self._pieces:
                self._collect.feed(piece)
            self._pieces.clear()

    def whole(self) -> None:
        """The body has come to its end."""
        self._whole = True
        if self._begun and self._key is not None and self.state == READING:
            try:
                self._read_body(self._key)
            except Refusal as refusal:
                self.refuse(refusal)

    def _read_body(self, key: KeyEntry) -> None:
        pieces, story, shared = self._pieces, self.story, self._shared
        if self._collect is not None:
            body = self._collect.end()
            self._collect = None
        else:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.state, self.body, self._pieces = LOOKING, body, []
        model, wanted = asked.read(body)
        story.bytes_in = len(body)
        if wanted.stream:
            story.stream, self.show_usage = True, wanted.shows_usage()
        target = shared.targets.by_path.get(model)
        if (
            target is not None
            and target.tenant == key.tenant
            and not key.scopes
            and target.until > story.began
        ):
            self._found(target, model)
        else:
            self._find(model, key)

    def _find(self, model: str, key: KeyEntry) -> None:
        """Find the deployment that was not asked for lately, or by a key of this kind."""
        name = admission.deployment_of(model, key)
        target = self._shared.targets.of(model, name, self.story.began)
        if target is not None:
            self._found(target, model)
            return
        gate, address = self._shared.gate, self._client.address
        self._look(
            lambda: gate.deployment(model, key, address), lambda _: self._find_again(model, name)
        )

    def _find_again(self, model: str, name: str) -> None:
        target = self._shared.targets.of(model, name, self._shared.chances.monotonic())
        if target is None:
            raise admission.no_model(model)
        self._found(target, model)

    def _found(self, target: Target, model: str) -> None:
        shared, story, key = self._shared, self.story, self._key
        assert key is not None
        if self.route not in target.fits:
            admission.check_there(model, target.entry)
            admission.check_route(model, self.route, target.entry)
        story.deployment = model
        head = self.head
        if shared.telling.tracing or head.special:
            self._trace(head.headers.get(b"traceparent", b""))
        shared.budget.requests += 1
        shared.in_flight.uses[key.id] += 1
        self._load = target.load
        target.load.running += 1
        self.state = ASKING
        self._asking = Asking(self, shared, target)
        self._asking.ask()

    def _trace(self, given: bytes) -> None:
        telling, story = self._shared.telling, self.story
        story.traceparent = given.decode("latin-1")
        if telling.tracing:
            given = telling.traceparent(given)
            story.trace = given.decode("latin-1")
        if given:
            self.trace = b"traceparent: %b\r\n" % given
        state = self.head.headers.get(b"tracestate")
        if given and state is not None:
            self.trace += b"tracestate: %b\r\n" % state

    # What the views lack

    def _look(self, ask: Callable[[], Awaitable[T]], got: Callable[[T], None]) -> None:
        """Ask a bucket, and go on with what it says."""

        async def look() -> None:
            try:
                found = await ask()
            finally:
                self._looking = None
            got(found)

        async def look_or_refuse() -> None:
            try:
                await look()
            except Refusal as refusal:
                self.refuse(refusal)
            except Exception:
                log.exception("request.crashed", request_id=self.story.request_id)
                self.crashed()

        self._looking = asyncio.create_task(look_or_refuse(), name="look-up")

    def _got_key(self, key: KeyEntry) -> None:
        self._key, self.story.key = key, key.id
        if self._whole and self.state == READING:
            self._read_body(key)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Refusal as refusal:
            self.refuse(refusal)

    # The answer

    def waits(self) -> bool:
        return self._client.flow.write_paused

    def start(self, own: bytes, body: bytes) -> None:
        story, now = self.story, self._shared.chances.monotonic()
        self.state, story.status, story.answered = ANSWERING, 200, now
        head = (
            b"HTTP/1.1 200 OK\r\nx-request-id: %b\r\nopenai-processing-ms: %d\r\n"
            b"x-caravan-instance: %b\r\n%b%b\r\n"
        ) % (
            story.request_id.encode(),
            (now - story.began) * 1000,
            story.instance.encode(),
            own,
            self._ending(),
        )
        self.sent = len(body)
        turn = self._shared.turn
        if len(body) < ONE_WRITE:
            turn.write(self.to, head + body)
        else:
            turn.write(self.to, head)
            turn.write(self.to, body)

    def _ending(self) -> bytes:
        """Return the header lines that depend on who asked, and on what becomes of them."""
        head = self.head
        named = head.dialect.headers(self.story.request_id)
        if self.keep_alive is head.keep_alive and not named:
            return head.ending
        return http.ending(origin=head.origin, close=not self.keep_alive) + http.lines(named)

    def pass_on(self, data: bytes) -> None:
        self.sent += len(data)
        self._shared.turn.write(self.to, data)

    def finish(self, outcome: str, reason: str = "") -> None:
        self._over(outcome, reason)
        self._client.answered(keep=self.keep_alive)

    def cut(self, outcome: str, reason: str) -> None:
        self._over(outcome, reason)
        self._client.transport.abort()

    def refuse(self, refusal: Refusal) -> None:
        """Answer with ``refusal``; nothing happens if an answer has begun or the client is gone."""
        if self.state >= ANSWERING:
            return
        story, now = self.story, self._shared.chances.monotonic()
        if self._load is not None:
            self._load.refused += 1
        unsure = not self._whole and not self._continued and b"expect" in self.head.headers
        if unsure or isinstance(refusal, SlowBodyError):
            self.keep_alive = False  # whether the rest of the body still comes is not known
        body = self.dialect.envelope(refusal, story.request_id)
        self._shared.turn.write(
            self.to,
            b"%b%bx-request-id: %b\r\nopenai-processing-ms: %d\r\n%bcontent-length: %d\r\n\r\n%b"
            % (
                http.status_line(refusal.status),
                http.lines(headers_of(refusal)),
                story.request_id.encode(),
                (now - story.began) * 1000,
                self._ending(),
                len(body),
                body,
            ),
        )
        story.status, story.code, story.answered = refusal.status, refusal.problem.code, now
        self.sent = len(body)
        self.finish(REFUSED, story.why or why(refusal))

    # The end

    def gone(self) -> None:
        """The client has closed its connection."""
        if self.state != OVER:
            self._over(CANCELLED, "the client left")

    def crashed(self) -> None:
        """A defect of the router has ended this request; its traceback is being logged."""
        if self.state == OVER:
            return
        if self.state < ANSWERING:
            self.refuse(InternalError("The router failed; its log says why. Try again."))
        else:
            self.cut(FAILED, "the router failed")

    def stop(self) -> None:
        """End what is under way: the router stops."""
        if self._asking is not None:
            self._asking.stop()
        if self.state != OVER:
            self.cut(CANCELLED, "the router was stopped")

    def look(self, now: float, heard: float) -> None:
        """Give up who has been silent for too long; the client was last heard at ``heard``."""
        patience_s = self._shared.patience.body_s
        if self._asking is not None:
            self._asking.look(now)
        elif not self._whole and now - heard >= patience_s:
            self.refuse(
                SlowBodyError(
                    f"Nothing of the request body came for {patience_s:g} s. Send it again."
                )
            )

    def pause(self) -> None:
        """Read no more of the engine's answer: the client does not keep up."""
        if self._asking is not None:
            self._asking.pause()

    def resume(self) -> None:
        """Read on."""
        if self._asking is not None:
            self._asking.resume()

    def _over(self, outcome: str, reason: str) -> None:
        story = self.story
        self.state, self.response_complete = OVER, True
        story.outcome = outcome
        if outcome != COMPLETE:
            story.why = reason or story.why
        elif story.why:
            story.why = ""  # of an attempt that was made good
        self.body = b""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._asking is not None:
            self._asking.over()
            self._asking = None
        story.bytes_out = self.sent
        if self._load is not None:
            self._load.running -= 1
            self._load = None
        if self._pieces:
            self._pieces.clear()
        telling = self._shared.telling
        telling.ended(story, self._shared.chances.monotonic())
