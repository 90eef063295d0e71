"""The way to engines: one kept HTTP client for the whole process."""

import asyncio
import io
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Self

import aiohttp

from services.router.core.attempts import Failure
from services.router.core.ports import AttemptError, Call

KEEP_ALIVE_S = 4.0
"""Less than SGLang's 5 s, so that an idle connection is ours to close."""
LARGE_BODY = 2**20
READ_BUFFER = 2**16
_KEEP_ALIVE = {
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 25_000,
}


class EngineAnswer:
    """An engine's answer: the head is there, the body comes piece by piece."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.content_type = response.headers.get("Content-Type", "application/json")
        self.retry_after_s = _seconds(response.headers.get("Retry-After"))
        self.length = response.content_length

    async def piece(self, patience_s: float) -> bytes:
        """Return the next bytes, b"" at the end; AttemptError when it breaks or stalls."""
        try:
            async with asyncio.timeout(patience_s):
                return await self._response.content.readany()
        except TimeoutError as exc:
            raise AttemptError(
                Failure.BROKEN, f"the engine sent nothing for {patience_s:g} s"
            ) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise AttemptError(
                Failure.BROKEN, f"the engine broke its answer off ({type(exc).__name__})"
            ) from exc


class EngineClient:
    """Sends requests to engines over connections that are kept between them.

    ``async with`` opens and closes it. A call's connection is closed at once when its context is
    left before the end of the answer: an engine notices only that its client is gone.
    """

    def __init__(self, *, connect_timeout_s: float) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=KEEP_ALIVE_S,
                ttl_dns_cache=10,
                happy_eyeballs_delay=None,
                socket_factory=_socket,
            ),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            auto_decompress=False,
            read_bufsize=READ_BUFFER,
            trace_configs=[_tracing()],
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def send(self, call: Call, patience_s: float) -> AsyncIterator[EngineAnswer]:
        """Send ``call``; AttemptError when no head of an answer comes within ``patience_s``."""
        response = await self._head(call, patience_s)
        try:
            yield EngineAnswer(response)
        finally:
            response.close()

    async def _head(self, call: Call, patience_s: float) -> aiohttp.ClientResponse:
        assert self._session is not None
        trace = SimpleNamespace(sent=False, reused=False)
        try:
            async with asyncio.timeout(patience_s):
                return await self._session.post(
                    call.url + call.route,
                    data=_payload(call.body),
                    headers=_headers(call),
                    allow_redirects=False,
                    trace_request_ctx=trace,
                )
        except TimeoutError as exc:
            raise _silent(trace, patience_s) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise AttemptError(_failure(trace), f"no answer ({type(exc).__name__})") from exc


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket which notices within 25 s that the other machine has vanished.

    Without it a request that waits for its first byte there would wait for ever.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):  # not every system has them all
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


def _headers(call: Call) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "X-Request-Id": call.request_id}
    if call.engine_key:
        headers["Authorization"] = f"Bearer {call.engine_key}"
    return headers


def _payload(body: bytes) -> bytes | io.BytesIO:
    # aiohttp writes bytes in one go; a large body in pieces leaves the loop to others between them.
    return body if len(body) < LARGE_BODY else io.BytesIO(body)


def _silent(trace: SimpleNamespace, patience_s: float) -> AttemptError:
    if not trace.sent:
        return AttemptError(Failure.NEVER_DELIVERED, "no connection in time")
    return AttemptError(Failure.BROKEN, f"no answer within {patience_s:g} s")


def _failure(trace: SimpleNamespace) -> Failure:
    if not trace.sent:
        return Failure.NEVER_DELIVERED
    return Failure.STALE if trace.reused else Failure.BROKEN


def _tracing() -> aiohttp.TraceConfig:
    """Note, for one request, whether a byte of it was sent and on which kind of connection."""
    config = aiohttp.TraceConfig()

    async def sent(_: object, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.sent = True

    async def reused(_: object, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.reused = True

    config.on_request_headers_sent.append(sent)
    config.on_connection_reuseconn.append(reused)
    return config


def _seconds(header: str | None) -> float | None:
    try:
        seconds = float(header or "")
    except ValueError:  # a date: nobody who serves models sends one
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
