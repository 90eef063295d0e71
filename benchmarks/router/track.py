"""The router's hot path without sockets: a client's connection, an engine's, and no kernel between.

Everything but the two transports is the router's own: the lane, its views over a real NATS, the
gate, the exchange. So the CPU of a request can be measured to a part of a microsecond, and what
one of its pieces costs by taking that piece out.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import uvicorn
from msgspec import Struct
from msgspec.structs import replace
from uvicorn.server import ServerState

from benchmarks.router.peers import OUR_KEY, OUR_MODEL
from benchmarks.router_under_test import Asked, announce
from caravan.contracts import names
from caravan.kit.bus import Bus
from caravan.testing.nats import NatsServer
from services.router import app as router
from services.router.adapters.engine import Engine, EngineConnection, Engines
from services.router.api.lane import ClientConnection, Lane
from services.router.api.shared import Shared
from services.router.core.job import Clock
from services.router.core.turn import Turn
from services.router.settings import Settings

TOKENS = 64
PIECE = 64 * 2**10
"""What a socket gives at once of a large body."""
_ID = b'"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion'
_MORE = b'"created":1764000000,"model":"fake","choices":['
_SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 24 Nov 2025 12:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
ANSWER = (
    b"{" + _ID + b'",' + _MORE + b'{"index":0,"message":{"role":"assistant","content":"'
    b"" + b"words " * 45 + b'","tool_calls":null},"logprobs":null,"finish_reason":"stop",'
    b'"matched_stop":null}],"usage":{"prompt_tokens":212,"completion_tokens":64,'
    b'"total_tokens":276,"prompt_tokens_details":null},"system_fingerprint":null}'
)


def event(number: int) -> bytes:
    """Return the content event ``number`` of a stream of :data:`TOKENS`."""
    finish = b'"stop"' if number == TOKENS - 1 else b"null"
    role = b"" if number else b'"role":"assistant",'
    return (
        b'data: {%b.chunk",%b{"index":0,"delta":{%b"content":" token%02d"},'
        b'"logprobs":null,"finish_reason":%b}]}\n\n'
    ) % (_ID, _MORE, role, number, finish)


USAGE = (
    b'data: {%b.chunk",%b],"usage":{"prompt_tokens":212,"completion_tokens":64,'
    b'"total_tokens":276}}\n\n'
) % (_ID, _MORE)
DONE = b"data: [DONE]\n\n"


def chunk(data: bytes) -> bytes:
    """Return ``data`` as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def plain() -> list[bytes]:
    """Return an engine's plain answer, as it comes: in one piece."""
    head = (
        b"HTTP/1.1 200 OK\r\ndate: Mon, 24 Nov 2025 12:00:00 GMT\r\nserver: uvicorn\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER)
    )
    return [head + ANSWER]


def paced() -> list[bytes]:
    """Return an engine's stream, a piece per content event; usage and end in the last one."""
    pieces = [chunk(event(number)) for number in range(TOKENS)]
    return [_SSE_HEAD + pieces[0], *pieces[1:], chunk(USAGE) + chunk(DONE) + b"0\r\n\r\n"]


def at_once() -> list[bytes]:
    """Return the same stream in one piece."""
    return [b"".join(paced())]


def request(
    *, stream: bool = False, usage: bool = True, image: int = 0, headers: bytes = b""
) -> list[bytes]:
    """Return a client's request, in the pieces that a socket would give."""
    content = "please look at this paragraph. " * 27 + "x" * image
    options = ',"stream_options":{"include_usage":true}' if stream and usage else ""
    body = (
        f'{{"model":"{OUR_MODEL}","messages":[{{"role":"user","content":"{content}"}}],'
        f'"temperature":0.7,"max_tokens":64,"stream":{str(stream).lower()}{options},"seed":0}}'
    ).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:18080\r\n"
        b"Authorization: Bearer %b\r\nContent-Type: application/json\r\nAccept: */*\r\n"
        b"User-Agent: loadgen\r\n%bContent-Length: %d\r\n\r\n"
    ) % (OUR_KEY.encode(), headers, len(body))
    whole = head + body
    return [whole[at : at + PIECE] for at in range(0, len(whole), PIECE)]


class Wire:
    """A transport that takes what is written, and keeps nothing but how much."""

    def __init__(self) -> None:
        self.written = 0
        self.last = b""

    def write(self, data: bytes) -> None:
        self.written += len(data)
        self.last = data

    def writelines(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self.write(piece)

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 40000) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        raise RuntimeError("the connection was closed: the answer was not what it shall be")

    abort = close


class Exchanged(Struct, frozen=True):
    """One kind of request and what an engine answers."""

    name: str
    asks: list[bytes]
    answers: list[bytes]


class Track:
    """One client connection and one kept connection to every engine, of a router process."""

    def __init__(self, shared: Shared) -> None:
        self.client, self.engine = Wire(), Wire()
        loop = asyncio.get_running_loop()
        engines = Engines(connect_timeout_s=1.0, clock=shared.clock, turn=Turn())
        self.shared = replace(shared, engines=engines, turn=engines.turn)
        config = uvicorn.Config(
            _no_app, log_config=None, access_log=False, ws="none", interface="asgi3"
        )
        config.load()
        self._lane = Lane(self.shared)
        self._from_client: ClientConnection = self._lane.connection(
            config=config, server_state=ServerState(), app_state={}, _loop=loop
        )
        self._from_client.connection_made(cast(Any, self.client))
        # All records share one engine, so that the same one always answers.
        engine = Engine()
        self._from_engine = EngineConnection(engines, engine)
        self._from_engine.connection_made(cast(Any, self.engine))
        engine.idle.append(self._from_engine)
        for record in _records(shared):
            engines._by_url[record] = engine  # noqa: SLF001 - no socket, so no way to open one

    def run(self, one: Exchanged, times: int) -> float:
        """Send ``one`` so many times; return the seconds of CPU that each took."""
        ask, answer = self._from_client.data_received, self._from_engine.data_received
        asks, answers = one.asks, one.answers
        began = time.process_time()
        for _ in range(times):
            for piece in asks:
                ask(piece)
            for piece in answers:
                answer(piece)
        return (time.process_time() - began) / times

    def check(self, one: Exchanged) -> None:
        """Send ``one`` once; ``AssertionError`` unless it is answered whole, with 200."""
        asked, answered = self.engine.written, self.client.written
        self.client.last = b""
        for piece in one.asks:
            self._from_client.data_received(piece)
        assert self.engine.written - asked > sum(map(len, one.asks)) - 600
        for piece in one.answers[:-1]:
            self._from_engine.data_received(piece)
        self._from_engine.data_received(one.answers[-1])
        assert self.client.written - answered > sum(map(len, one.answers)) - 600
        assert self.client.last.endswith((b"0\r\n\r\n", b"}")), self.client.last[-200:]


async def _no_app(_scope: object, _receive: object, _send: object) -> None:
    raise RuntimeError("nothing here is for Litestar")


def _records(shared: Shared) -> list[str]:
    target = shared.targets.of(OUR_MODEL, names.deployment_key(*OUR_MODEL.split("/")), 0.0)
    assert target is not None
    return [one.record.url for group in target.groups for one in group]


@contextlib.asynccontextmanager
async def parts(folder: Path, engines: int = 2) -> AsyncIterator[router.Parts]:
    """Give a router's parts over a real NATS, with so many engines announced, nobody listening."""
    tenant, name = OUR_MODEL.split("/")
    urls = tuple(f"http://127.0.0.1:{19001 + number}" for number in range(engines))
    what = Asked(port=0, tenant=tenant, name=name, key=OUR_KEY, engines=urls)
    unused = Engines(connect_timeout_s=1.0, clock=Clock(time.monotonic()), turn=Turn())
    async with NatsServer(folder / "nats") as nats, Bus(nats.url, name="bench") as bus:
        await bus.established(60)
        await announce(bus, what)
        made = router.assemble(Settings(nats_url=nats.url), bus, unused, None)
        following = asyncio.create_task(made.views.run())
        try:
            assert await made.views.wait_complete(30)
            yield made
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
