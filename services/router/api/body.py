"""Read a request body within its limits."""

import asyncio
from collections.abc import Mapping
from typing import Any

from litestar.types import Receive

from services.router.api.reply import ClientGoneError
from services.router.core import asked
from services.router.core.errors import SlowBodyError


async def read_body(
    receive: Receive, headers: Mapping[str, str], *, limit: int, patience_s: float
) -> bytes:
    """Return the whole body, expanded; refuse one that is too large, too slow or encoded oddly."""
    collect = asked.collector(headers.get("content-encoding"), limit)
    asked.declared_length(headers.get("content-length"), limit)
    more = True
    while more:
        message = await _next(receive, patience_s)
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client left before its request was whole")
        collect.feed(message.get("body", b""))
        more = message.get("more_body", False)
    return collect.end()


async def _next(receive: Receive, patience_s: float) -> Any:  # noqa: ANN401 - an ASGI message
    try:
        async with asyncio.timeout(patience_s):
            return await receive()
    except TimeoutError:
        raise SlowBodyError(
            f"Nothing of the request body came for {patience_s:g} s. Send the request again."
        ) from None
