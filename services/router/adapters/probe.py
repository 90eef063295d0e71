"""Asks one engine whether it is well, over a connection of its own."""

import asyncio
import re
from urllib.parse import urlsplit

from caravan.contracts.instances import Record

PATIENCE_S = 5.0
"""SGLang's ``/health`` waits for a token and looks once a second whether it has come: never sooner
than 1 s, and after 2 s where the engine is busy."""
_WELL = re.compile(rb"HTTP/1\.[01] 2\d\d ")


class HealthProber:
    """Sends ``GET /health`` with the engine's own key."""

    async def probe(self, record: Record) -> bool:
        """Tell whether the engine says within 5 s that it is well; whatever else happens is a no.

        The request's connection is not one of those kept for requests: one that can be made anew
        is what a refused connection has to show.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await _is_well(record)
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
            return False
        except asyncio.LimitOverrunError:  # a first line without end: no engine
            return False


async def _is_well(record: Record) -> bool:
    url = urlsplit(record.url)
    tls = url.scheme == "https"
    reader, writer = await asyncio.open_connection(
        url.hostname, url.port or (443 if tls else 80), ssl=tls or None
    )
    try:
        writer.write(_request(url.path.rstrip("/"), url.netloc, record.engine_key))
        return _WELL.match(await reader.readuntil(b"\r\n")) is not None
    finally:
        writer.transport.abort()


def _request(path: str, host: str, engine_key: str) -> bytes:
    key = f"Authorization: Bearer {engine_key}\r\n" if engine_key else ""
    head = f"GET {path}/health HTTP/1.1\r\nHost: {host}\r\n{key}Connection: close\r\n\r\n"
    return head.encode()
