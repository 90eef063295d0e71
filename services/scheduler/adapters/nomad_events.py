"""Nomad's event stream as a bell: rings when something of ours may have changed.

python-nomad's own reader is not used: it asks again with its first index without a pause, and
ends in silence when Nomad is away.
"""

import asyncio
import random
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
import structlog

from services.scheduler.adapters.nomad_jobs import PREFIX

log = structlog.get_logger()

TOPICS = ("Allocation", "Job", "Evaluation", "Node")
FIRST_WORD_S = 3.0
"""Nomad says ``{}`` at once; silence means that the token lacks a topic."""
SILENCE_S = 45.0
"""Nomad says ``{}`` each 30 s."""
PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
LINE_BYTES = 4 * 2**20


class StreamEndedError(Exception):
    """The stream is over: why, in words."""


class EventStream:
    """``run`` rings after each connection, for what happened before, and at each event of ours."""

    def __init__(
        self, address: str, *, token: str, namespace: str, ca_file: str, ring: Callable[[], None]
    ) -> None:
        self._base = address.rstrip("/")
        self._headers = {"X-Nomad-Token": token} if token else {}
        self._namespace = namespace
        self._ca_file = ca_file
        self._ring = ring
        self._denied = False

    async def run(self) -> None:
        """Read for ever; connect again with a growing pause."""
        pause_s = PAUSE_S
        trust = ssl.create_default_context(cafile=self._ca_file) if self._ca_file else True
        connector = aiohttp.TCPConnector(ssl=trust)
        async with aiohttp.ClientSession(
            connector=connector, headers=self._headers, read_bufsize=LINE_BYTES
        ) as session:
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    await self._read(session)
                except (aiohttp.ClientError, TimeoutError, StreamEndedError, ValueError) as exc:
                    log.info("nomad.stream_ended", why=str(exc) or type(exc).__name__)
                if asyncio.get_running_loop().time() - began > LONGEST_PAUSE_S:
                    pause_s = PAUSE_S
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _read(self, session: aiohttp.ClientSession) -> None:
        index = await self._newest(session)
        asked = [*(("topic", topic) for topic in TOPICS), ("namespace", self._namespace)]
        url = f"{self._base}/v1/event/stream"
        timeout = aiohttp.ClientTimeout(connect=5, sock_read=SILENCE_S)
        # Without an index, or with an old one, Nomad tells its whole buffer over again.
        params = [*asked, ("index", str(index + 1))]
        async with session.get(url, params=params, timeout=timeout) as answer:
            answer.raise_for_status()
            await self._first_word(answer)
            self._ring()
            async for line in answer.content:
                if concerns_us(line):
                    self._ring()
        raise StreamEndedError("Nomad closed it")

    async def _newest(self, session: aiohttp.ClientSession) -> int:
        url = f"{self._base}/v1/jobs"
        params = {"namespace": self._namespace, "per_page": "1"}
        async with session.get(url, params=params, timeout=aiohttp.ClientTimeout(10)) as answer:
            answer.raise_for_status()
            return int(answer.headers["X-Nomad-Index"])

    async def _first_word(self, answer: aiohttp.ClientResponse) -> None:
        try:
            async with asyncio.timeout(FIRST_WORD_S):  # wait_for may lose a cancellation in 3.11
                line = await answer.content.readline()
        except TimeoutError:
            if not self._denied:
                log.warning("nomad.stream_denied", topics=TOPICS, namespace=self._namespace)
            self._denied = True
            raise
        if not line:
            raise StreamEndedError("Nomad closed it before the first word")
        self._denied = False


def concerns_us(line: bytes) -> bool:
    """Tell whether a line tells of a job of ours, or of a node; ``ValueError`` when unreadable."""
    if len(line.strip()) <= len("{}"):
        return False
    try:
        events = msgspec.json.decode(line, type=_Line).events
    except msgspec.DecodeError as exc:
        raise ValueError(f"unreadable line: {exc}") from exc
    return any(_ours(event) for event in events or ())


class _Event(msgspec.Struct, rename="pascal"):
    topic: str
    type: str = ""
    key: str = ""
    payload: dict[str, Any] | None = None


class _Line(msgspec.Struct, rename="pascal"):
    events: list[_Event] | None = None


def _ours(event: _Event) -> bool:
    if event.topic == "Node":
        return event.type != "AllocationUpdated"  # each of these comes as an Allocation too
    if event.topic == "Job":
        return event.key.startswith(PREFIX)
    told = (event.payload or {}).get(event.topic) or {}
    return str(told.get("JobID", PREFIX)).startswith(PREFIX)
