"""``traceparent``, the header by which a request belongs to a trace (W3C Trace Context)."""

import re
from typing import Final

from msgspec import Struct

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 1
_LOW: Final = 2**64 - 1


class Span(Struct, frozen=True):
    """One step of a trace: what a ``traceparent`` names."""

    trace_id: int
    """128 bits, never 0."""
    span_id: int
    """64 bits, never 0."""
    sampled: bool
    """Whether whoever began the trace wants it recorded."""


def read(given: str) -> Span | None:
    """Return the span that ``given`` names; None where it is not well-formed."""
    found = _FORM.fullmatch(given)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    # A later version may say more behind what is known here; 00 may not, and ff is none.
    if version == "ff" or (version == "00" and more):
        return None
    span = Span(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED))
    return span if span.trace_id and span.span_id else None


def write(span: Span) -> str:
    """Return the ``traceparent`` that names ``span``."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.sampled:02x}"


def below(parent: Span, span_id: int) -> Span:
    """Return the span ``span_id`` of the trace of ``parent``; whether to record it is settled."""
    return Span(parent.trace_id, span_id, parent.sampled)


def begun(trace_id: int, span_id: int, ratio: float) -> Span:
    """Return the first span of a new trace; a share of ``ratio`` of them is to be recorded.

    The trace's id decides, as in OpenTelemetry, so that everybody with that ratio decides alike.
    """
    return Span(trace_id, span_id, (trace_id & _LOW) < round(ratio * 2**64))
