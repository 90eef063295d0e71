"""One OpenTelemetry span per request, sent by a thread of its own."""

import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from services.router.core import traceparent
from services.router.core.story import FAILED, TRUNCATED, Story
from services.router.core.traceparent import Span

PATH = "/v1/traces"
SEND_S = 5.0
"""A batch that the receiver has not taken in this time is lost."""
BATCH = 128
"""Spans that are put into bytes at once: for so long the loop shares the processor."""
WAITING = 4096
"""Spans that wait at most, when the receiver takes none; later ones push the oldest out."""
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/messages": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/rerank": "rerank",
}
_BROKEN = frozenset({TRUNCATED, FAILED})
_SCOPE = InstrumentationScope("caravan.router")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status(StatusCode.UNSET)


class Spans:
    """Makes the span of a request when it has ended, under the id that the engine was told.

    Nothing here waits for the receiver: what it does not take is lost, not late.
    """

    def __init__(self, endpoint: str, ratio: float, run: str) -> None:
        self._ratio = ratio
        self._draw = random.SystemRandom().getrandbits
        self._resource = Resource.create(
            {"service.name": "caravan-router", "service.instance.id": run}
        )
        self._sender = _Sender(endpoint)
        self._processor = BatchSpanProcessor(
            self._sender,
            max_queue_size=WAITING,
            max_export_batch_size=BATCH,
            schedule_delay_millis=1000,
        )

    def traceparent(self, given: bytes) -> bytes:
        """Return the ``traceparent`` of a new span: below ``given``, if that is well-formed."""
        parent, span_id = traceparent.read(given.decode("latin-1")), self._id(64)
        if parent is not None:
            return traceparent.write(traceparent.below(parent, span_id)).encode()
        return traceparent.write(traceparent.begun(self._id(128), span_id, self._ratio)).encode()

    def ended(self, story: Story, now: float) -> None:
        """Take the span of a request that ended at ``now``, monotonic seconds."""
        own = traceparent.read(story.trace)
        if own is not None and own.sampled:
            self._processor.on_end(self._span(own, story, now))

    def close(self, timeout_s: float) -> None:
        """Send what waits, for at most ``timeout_s``; blocks."""
        closing = threading.Thread(target=self._processor.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(timeout_s)
        self._sender.give_up()

    def _span(self, own: Span, story: Story, now: float) -> ReadableSpan:
        # By hand: a tracer's start and end of a span cost five times as much, and make up its id.
        parent = traceparent.read(story.traceparent)
        end_ns = time.time_ns() - round((time.monotonic() - now) * 1e9)
        return ReadableSpan(
            f"{story.method} {story.route}",
            context=_context(own, is_remote=False),
            parent=_context(parent, is_remote=True) if parent is not None else None,
            resource=self._resource,
            attributes=dict(_attributes(story)),
            kind=SpanKind.SERVER,
            status=_status(story),
            start_time=end_ns - round((now - story.began) * 1e9),
            end_time=end_ns,
            instrumentation_scope=_SCOPE,
        )

    def _id(self, bits: int) -> int:
        while not (drawn := self._draw(bits)):
            pass
        return drawn


class _Sender(SpanExporter):
    """Sends batches by OTLP over HTTP, in the thread of its processor.

    OpenTelemetry tells the log of every batch that is not taken; here of the first in a row only.
    """

    def __init__(self, endpoint: str) -> None:
        base = endpoint.rstrip("/")
        url = base if base.endswith(PATH) else base + PATH
        self._otlp = OTLPSpanExporter(endpoint=url, timeout=SEND_S)
        self._taken, self._over = True, False
        self._log = logging.getLogger(OTLPSpanExporter.__module__)
        self._log.addFilter(self._worth_telling)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._over:
            return SpanExportResult.FAILURE
        result = self._otlp.export(spans)
        self._taken = result is SpanExportResult.SUCCESS
        return result

    def give_up(self) -> None:
        """Lose what is not sent yet, at once."""
        if not self._over:
            self._over = True
            self._otlp.shutdown()  # type: ignore[no-untyped-call]
            self._log.removeFilter(self._worth_telling)

    def shutdown(self) -> None:
        self.give_up()

    def _worth_telling(self, _: logging.LogRecord) -> bool:
        return self._taken


def _context(span: Span, *, is_remote: bool) -> SpanContext:
    flags = _SAMPLED if span.sampled else None
    return SpanContext(span.trace_id, span.span_id, is_remote=is_remote, trace_flags=flags)


def _status(story: Story) -> Status:
    if story.status >= 500 or story.outcome in _BROKEN:
        return Status(StatusCode.ERROR, story.why or None)
    return _UNSET


def _attributes(story: Story) -> Iterator[tuple[str, AttributeValue]]:
    """Yield what OpenTelemetry has names for (http, gen_ai), then what is ours."""
    yield "http.request.method", story.method
    yield "http.route", story.route
    yield "http.response.status_code", story.status
    yield "client.address", story.client
    if story.route in _OPERATIONS:
        yield "gen_ai.operation.name", _OPERATIONS[story.route]
    if story.deployment:
        yield "gen_ai.request.model", story.deployment
    if story.answered:
        yield "gen_ai.response.time_to_first_chunk", story.answered - story.began
    if story.usage is not None:
        yield "gen_ai.usage.input_tokens", story.usage.prompt_tokens
        yield "gen_ai.usage.output_tokens", story.usage.completion_tokens or 0
    if story.status >= 400 or story.outcome in _BROKEN:
        yield "error.type", story.code or story.outcome
    yield "caravan.request_id", story.request_id
    yield "caravan.outcome", story.outcome
    yield "caravan.attempts", story.attempts
    if story.instance:
        yield "caravan.instance", story.instance
    if story.key:
        yield "caravan.key", story.key
