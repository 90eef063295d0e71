"""A fake engine with what the test plans for it."""

import json
from contextlib import ExitStack

import aiohttp
import pytest

from caravan.testing.engine.plan import VARIABLE
from caravan.testing.engine.process import EngineProcess


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The smallest folder that the fake engine takes for a model."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def make(model, tmp_path):
    """``make("--flag", tokens=3)``: an engine with a plan, not started; ended after the test."""
    with ExitStack() as made:

        def engine(*flags, **plan):
            log = tmp_path / "engine.log"
            one = EngineProcess(model, log, *flags, environ={VARIABLE: json.dumps(plan)})
            made.callback(lambda: one.running and one.kill())
            return one

        yield engine


@pytest.fixture
def start(make):
    """The same, started and ready."""

    def started(*flags, **plan):
        engine = make(*flags, **plan)
        engine.start()
        engine.wait_ready()
        return engine

    return started


@pytest.fixture
async def client():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as client:
        yield client


class Talk:
    """One chat with an engine, told by its body."""

    def __init__(self, client, engine, said="Say hello", **fields):
        self.body = {"messages": [{"role": "user", "content": said}]} | fields
        self._call = client.post(
            f"{engine.url}/v1/chat/completions", json=self.body, headers=engine.auth
        )

    async def __aenter__(self):
        self.answer = await self._call.__aenter__()
        return self.answer

    async def __aexit__(self, *error):
        await self._call.__aexit__(*error)


@pytest.fixture
def talk(client):
    """``async with talk(engine, stream=True) as answer``."""
    return lambda engine, *said, **fields: Talk(client, engine, *said, **fields)


@pytest.fixture
def loads(client):
    """``await loads(engine)``: running and waiting."""

    async def numbers(engine):
        async with client.get(f"{engine.url}/v1/loads", headers=engine.auth) as answer:
            load = (await answer.json())["loads"][0]
        return load["num_running_reqs"], load["num_waiting_reqs"]

    return numbers
