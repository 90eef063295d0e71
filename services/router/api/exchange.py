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
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import structlog

from caravan.contracts.errors import Refusal
from caravan.contracts.keys import KeyEntry
from services.router.api.asking import Asking
from services.router.api.shared import Shared
from services.router.core import admission, asked, http
from services.router.core.candidates import Target
from services.router.core.dialects import Dialect
from services.router.core.errors import InternalError, SlowBodyError, headers_of
from services.router.core.story import CANCELLED, FAILED, REFUSED, Story, why

READING, LOOKING, ASKING, ANSWERING, OVER = range(5)
ONE_WRITE = 64 * 2**10
"""A shorter body is written in one piece with its head."""

T = TypeVar("T")
log = structlog.get_logger()


class Client(Protocol):
    """The connection that a request came on."""

    transport: asyncio.Transport
    address: str

    def waits(self) -> bool:
        """Tell whether the client reads too slowly for what was written."""

    def answered(self, *, keep: bool) -> None:
        """The answer is written; ``keep``: the connection carries another request."""


class Exchange:
    """See the states above. ``begin``, ``take`` and ``whole`` feed it its request."""

    __slots__ = (
        "_asking",
        "_begun",
        "_client",
        "_collect",
        "_heard",
        "_key",
        "_looking",
        "_pieces",
        "_sent",
        "_shared",
        "_size",
        "_target",
        "_whole",
        "body",
        "chunks",
        "dialect",
        "headers",
        "keep",
        "route",
        "show_usage",
        "state",
        "story",
        "trace",
    )

    def __init__(  # noqa: PLR0913 - what a head says
        self,
        shared: Shared,
        client: Client,
        route: str,
        dialect: Dialect,
        headers: Mapping[bytes, bytes],
        *,
        keep: bool,
        chunks: bool,
    ) -> None:
        self._shared, self._client = shared, client
        self.route, self.dialect, self.headers = route, dialect, headers
        self.keep, self.chunks = keep, chunks
        self.state = READING
        self.show_usage = self._begun = self._whole = False
        self.body = self.trace = b""
        self._pieces: list[bytes] = []
        self._collect: asked.Plain | asked.Gzipped | None = None
        self._size = self._sent = 0
        self._heard = 0.0
        self._key: KeyEntry | None = None
        self._target: Target | None = None
        self._asking: Asking | None = None
        self._looking: asyncio.Task[None] | None = None
        self.story: Story

    # The request

    def begin(self) -> None:
        """Look at the head. The body follows, unless this request had to wait for its turn."""
        headers = self.headers
        self._begun = True
        given = headers.get(b"x-request-id")
        self._heard = began = self._shared.chances.monotonic()
        self.story = Story(
            request_id=http.request_id(given, self._shared.new_id),
            method="POST",
            path=self.route,
            route=self.route,
            client=self._client.address,
            began=began,
            origin=b"origin" in headers,
        )
        self._try(self._check_head)
        if self._pieces:
            self._try(self._measure)
        if self._whole:
            self.whole()

    def _check_head(self) -> None:
        headers, gate, limit = self.headers, self._shared.gate, self._shared.body_limit
        secret = self.dialect.key(headers)
        self._key = gate.known_key(secret, self.dialect.no_key)
        if self._key is None:
            self._look(lambda: gate.asked_key(secret or "", self._client.address), self._got_key)
        else:
            self.story.key = self._key.id
        length = headers.get(b"content-length")
        if length is not None:
            asked.declared_length(length, limit)
        encoding = headers.get(b"content-encoding")
        if encoding is not None:
            self._collect = asked.collector(encoding.decode("latin-1"), limit)
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self._client.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def take(self, data: bytes) -> None:
        """Take a piece of the body; it is dropped where the request is refused already."""
        if self.state == READING:
            self._heard = self._shared.chances.monotonic()
            self._pieces.append(data)
            self._size += len(data)
            if self._begun and (self._collect is not None or self._size > self._shared.body_limit):
                self._try(self._measure)

    def _measure(self) -> None:
        """Expand what has come of the body; refuse more than the limit."""
        if self._collect is not None:
            for piece in self._pieces:
                self._collect.feed(piece)
            self._pieces.clear()
        elif self._size > self._shared.body_limit:
            raise asked.too_large(self._shared.body_limit)

    def whole(self) -> None:
        """The body has come to its end."""
        self._whole = True
        if self._begun and self._key is not None and self.state == READING:
            self._try(self._read_body)

    def _read_body(self) -> None:
        pieces, key, story = self._pieces, self._key, self.story
        if self._collect is not None:
            body = self._collect.end()
        else:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.state, self.body, self._pieces, self._collect = LOOKING, body, [], None
        wanted = asked.read(body)
        story.bytes_in, story.stream = len(body), wanted.stream
        self.show_usage = wanted.show_usage
        assert key is not None
        target = self._shared.targets.known(wanted.model, story.began)
        if target is not None and target.tenant == key.tenant and not key.scopes:
            self._found(target, wanted.model)
        else:
            self._find(wanted.model, key)

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
        admission.check_there(model, target.entry)
        story.deployment = model
        admission.check_route(model, self.route, target.entry)
        given = self.headers.get(b"traceparent", b"")
        if given or shared.telling.tracing:
            self._trace(given)
        shared.budget.request(story.began)
        shared.in_flight.enter(target.name, key.id)
        self._target, self.state = target, ASKING
        self._asking = Asking(self, shared, target)
        self._asking.ask()

    def _trace(self, given: bytes) -> None:
        telling, story = self._shared.telling, self.story
        story.traceparent = given.decode("latin-1")
        if telling.tracing:
            given = telling.traceparent(given)
            story.trace = given.decode("latin-1")
        self.trace = b"traceparent: %b\r\n" % given

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
            self._read_body()

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Refusal as refusal:
            self.refuse(refusal)

    # The answer

    @property
    def over(self) -> bool:
        """Whether the request has ended."""
        return self.state == OVER

    def waits(self) -> bool:
        return self._client.waits()

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
        self._sent = len(body)
        if len(body) < ONE_WRITE:
            self._client.transport.write(head + body)
        else:
            self._client.transport.writelines((head, body))

    def _ending(self) -> bytes:
        """Return the header lines that depend on who asked, and on what becomes of them."""
        ending = http.ending(origin=self.story.origin, close=not self.keep)
        named = self.dialect.headers(self.story.request_id)
        return ending + http.lines(named) if named else ending

    def pass_on(self, data: bytes) -> None:
        self._sent += len(data)
        self._client.transport.write(data)

    def finish(self, outcome: str, reason: str = "") -> None:
        self._over(outcome, reason)
        self._client.answered(keep=self.keep)

    def cut(self, outcome: str, reason: str) -> None:
        self._over(outcome, reason)
        self._client.transport.abort()

    def refuse(self, refusal: Refusal) -> None:
        """Answer with ``refusal``; nothing happens if an answer has begun or the client is gone."""
        if self.state >= ANSWERING:
            return
        story, now = self.story, self._shared.chances.monotonic()
        if self._target is not None:
            self._shared.in_flight.refused(self._target.name)
        if isinstance(refusal, SlowBodyError) or (not self._whole and b"expect" in self.headers):
            self.keep = False  # whether the rest of the body still comes is not known
        body = self.dialect.envelope(refusal, story.request_id)
        self._client.transport.write(
            b"%b%bx-request-id: %b\r\nopenai-processing-ms: %d\r\n%bcontent-length: %d\r\n\r\n%b"
            % (
                http.status_line(refusal.status),
                http.lines(headers_of(refusal)),
                story.request_id.encode(),
                (now - story.began) * 1000,
                self._ending(),
                len(body),
                body,
            )
        )
        story.status, story.code, story.answered = refusal.status, refusal.problem.code, now
        self._sent = len(body)
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

    def look(self, now: float) -> None:
        """Give up who has been silent for too long; called about once a second."""
        if self._asking is not None:
            self._asking.look(now)
        elif not self._whole and self.state == READING:
            patience_s = self._shared.patience.body_s
            if now - self._heard >= patience_s:
                self.refuse(
                    SlowBodyError(
                        f"Nothing of the request body came for {patience_s:g} s. "
                        "Send the request again."
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
        self.state, story, shared = OVER, self.story, self._shared
        story.outcome, story.bytes_out = outcome, self._sent
        story.why = reason or story.why if outcome != "complete" else ""
        self._pieces, self._collect, self.body = [], None, b""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._asking is not None:
            self._asking.over()
            self._asking = None
        if self._target is not None:
            shared.in_flight.leave(self._target.name)
            self._target = None
        shared.telling.ended(story, shared.chances.monotonic())
