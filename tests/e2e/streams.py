"""Clients that stream without end and know whether what they got was whole."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
from msgspec import Struct

from caravan.testing.engine.answers import spoken

TOKENS = 24
TOKEN_S = 0.02


class Streamed(Struct, frozen=True):
    """One answer as it came."""

    instance: str
    text: str
    status: int = 200
    finish: str = ""
    done: bool = False
    error: str = ""
    number: int = 0

    @property
    def whole(self):
        """Whether it ended as a complete answer does."""
        return self.status == 200 and self.done and bool(self.finish) and not self.error


class Client:
    """Asks one deployment over HTTP, with a key."""

    def __init__(self, session, base_url, key, model, *, fake):
        self._session, self._url = session, f"{base_url}/chat/completions"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._model, self.fake = model, fake

    def expected(self, number):
        """Return what the fake engine answers to the question of this number."""
        return spoken(f"question {number}", TOKENS)

    async def ask(self, number=0):
        """Return one streamed answer, read to its end."""
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": f"question {number}"}],
            "stream": True,
            "max_tokens": TOKENS,
            "fake": {"tokens": TOKENS, "token_s": TOKEN_S},  # SGLang ignores what it does not know
        }
        async with self._session.post(self._url, json=body, headers=self._headers) as answer:
            instance = answer.headers.get("x-caravan-instance", "")
            if answer.status != 200:
                return Streamed(instance, "", answer.status, error=await answer.text())
            return await _read(answer, instance, number)

    @asynccontextmanager
    async def crowd(self, size=4):
        """Stream all the time with ``size`` clients; gives the list of what came so far.

        At the end every stream under way is read to its end.
        """
        came, stop = [], asyncio.Event()

        async def one(first):
            number = first
            while not stop.is_set():
                came.append(await self.ask(number))
                number += size

        tasks = [asyncio.create_task(one(first)) for first in range(size)]
        try:
            yield came
            stop.set()
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _read(answer, instance, number):
    text, finish, error, done = "", "", "", False
    async for line in answer.content:
        data = line.decode().strip()
        if data == "data: [DONE]":
            done = True
        elif data.startswith("data: "):
            event = json.loads(data[6:])
            error = error or json.dumps(event.get("error") or "").strip('"')
            for choice in event.get("choices", []):
                text += choice["delta"].get("content") or ""
                finish = choice.get("finish_reason") or finish
    return Streamed(instance, text, 200, finish, done, error, number)


@asynccontextmanager
async def client(site, name):
    """A client of the deployment ``name`` with a key of its own."""
    platform = site.platform
    key, model = await platform.key(), f"{platform.tenant}/{name}"
    timeout = aiohttp.ClientTimeout(total=None, sock_read=120)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Client(session, platform.base_url, key, model, fake=site.fake)
