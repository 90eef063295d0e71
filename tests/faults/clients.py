"""Clients that go on asking whatever dies, and note for each answer how far it came and when."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import aiohttp
from msgspec import Struct

from caravan.testing.engine.answers import is_whole, spoken

TOKENS = 16
TOKEN_S = 0.03
BREATH_S = 0.1
"""After a refusal or a router that is away."""


class Answer(Struct, kw_only=True):
    """One request, from its first byte sent to its last byte read; times are monotonic."""

    number: int
    began: float
    ended: float = 0.0
    status: int = 0
    """0: there was no answer."""
    code: str = ""
    instance: str = ""
    text: str = ""
    finish: str = ""
    done: bool = False
    error: str = ""
    broken: str = ""
    """How the connection broke."""
    fake: bool = True

    @property
    def looks_whole(self):
        """Whether a client takes it for a complete answer."""
        return self.status == 200 and self.done and not self.error and not self.broken

    @property
    def whole(self):
        """Whether it is one: of the fake engine's it is known what it says."""
        said = is_whole(self.text) and self.text == spoken(f"question {self.number}", TOKENS)
        return self.looks_whole and bool(self.finish) and (said or not self.fake)

    @property
    def cut(self):
        """Whether it began and did not come to its end, and shows it."""
        return self.status == 200 and not self.looks_whole and bool(self.error or self.broken)

    def at_work(self, since, until):
        """Tell whether it was under way at any moment of a span."""
        return self.began <= until and self.ended >= since


class Clients:
    """Ask one deployment through the router; a connection for each request."""

    def __init__(self, session, platform, key, name, *, fake=True):
        self._session, self._url = session, f"{platform.base_url}/chat/completions"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._model, self._fake = f"{platform.tenant}/{name}", fake
        self._under_way = []

    def streams(self):
        """Tell whether a stream has just begun, so that what happens now meets it."""
        fresh = time.monotonic() - TOKENS * TOKEN_S / 4
        return any(one.status == 200 and one.began > fresh for one in self._under_way)

    async def ask(self, number=0):
        """Return what became of one question."""
        answer = Answer(number=number, began=time.monotonic(), fake=self._fake)
        self._under_way.append(answer)
        try:
            async with self._session.post(
                self._url, json=self._body(number), headers=self._headers
            ) as response:
                await _read(response, answer)
        except (aiohttp.ClientError, OSError) as exc:
            answer.broken = f"{type(exc).__name__}: {exc}"
        answer.ended = time.monotonic()
        self._under_way.remove(answer)
        return answer

    def _body(self, number):
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": f"question {number}"}],
            "stream": True,
            "max_tokens": TOKENS,
            "fake": {"tokens": TOKENS, "token_s": TOKEN_S},  # SGLang ignores what it does not know
        }

    @asynccontextmanager
    async def crowd(self, size=3):
        """Ask all the time with ``size`` clients; gives the list of answers so far.

        At the end every answer under way is read to its end.
        """
        came, stop = [], asyncio.Event()

        async def one(number):
            while not stop.is_set():
                came.append(await self.ask(number))
                number += size
                if came[-1].status != 200:
                    await asyncio.sleep(BREATH_S)

        tasks = [asyncio.create_task(one(first)) for first in range(size)]
        try:
            yield came
            stop.set()
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _read(response, answer):
    answer.status = response.status
    answer.instance = response.headers.get("x-caravan-instance", "")
    if response.status != 200:
        answer.error = await response.text()
        answer.code = json.loads(answer.error)["error"]["code"]
        return
    async for line in response.content:
        data = line.decode().strip()
        if data == "data: [DONE]":
            answer.done = True
        elif data.startswith("data: "):
            event = json.loads(data[6:])
            answer.error = answer.error or (event.get("error") or {}).get("message", "")
            for choice in event.get("choices", []):
                answer.text += choice["delta"].get("content") or ""
                answer.finish = choice.get("finish_reason") or answer.finish


@asynccontextmanager
async def clients(platform, key, name, *, fake=True):
    """Clients of the deployment ``name``."""
    timeout = aiohttp.ClientTimeout(total=None, sock_read=180)
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Clients(session, platform, key, name, fake=fake)
