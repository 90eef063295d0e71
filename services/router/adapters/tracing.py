"""Traces, off unless an endpoint is set; OpenTelemetry is not even imported before."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from caravan.contracts.errors import InvalidRequestError, UnavailableError

if TYPE_CHECKING:
    from services.router.adapters.spans import Spans

LEAVE_S = 3.0
"""How long a process that ends waits for its last spans to be taken."""


@asynccontextmanager
async def tracing(endpoint: str | None, *, ratio: float, run: str) -> "AsyncIterator[Spans | None]":
    """Give what makes spans and sends them to ``endpoint``; None without one.

    ``ratio``: the share of requests without a ``traceparent`` that are traced. ``run``: this
    process's id, under which it is known in the traces. At the end what waits is sent.
    """
    if endpoint is None:
        yield None
        return
    check(endpoint, ratio)
    from services.router.adapters.spans import Spans  # noqa: PLC0415 - costs 8 MB: see above

    spans = Spans(endpoint, ratio, run)
    try:
        yield spans
    finally:
        await asyncio.to_thread(spans.close, LEAVE_S)


def check(endpoint: str | None, ratio: float) -> None:
    """Refuse what :func:`tracing` could not work with; loads nothing."""
    if endpoint is None:
        return
    if not endpoint.startswith(("http://", "https://")):
        raise InvalidRequestError(
            f"ROUTER_OTLP_ENDPOINT is {endpoint!r}: give the URL of a receiver of OTLP over HTTP, "
            "e.g. http://127.0.0.1:4318.",
            param="otlp_endpoint",
        )
    if not 0.0 <= ratio <= 1.0:
        raise InvalidRequestError(
            f"ROUTER_TRACE_RATIO is {ratio:g}: give a share, from 0 to 1.", param="trace_ratio"
        )
    if not _installed():
        raise UnavailableError(
            "ROUTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: "
            "install requirements/otel.txt, or the extra `otel`."
        )


def _installed() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False
