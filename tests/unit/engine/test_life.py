"""How a fake engine starts and ends."""

import signal
import socket

import aiohttp

from caravan.testing.engine.answers import is_whole
from caravan.testing.engine.process import EngineProcess
from caravan.testing.wait import until


async def status(client, engine, path="/health"):
    async with client.get(engine.url + path, headers=engine.auth) as answer:
        return answer.status


async def opened(client, engine):
    try:
        await status(client, engine)
    except aiohttp.ClientConnectionError:
        return False
    return True


async def test_it_ends_in_order_when_it_is_asked(start):
    assert start().stop() == 0


async def test_a_running_stream_is_finished_before_the_end(start, talk, client):
    engine = start(token_s=0.02, tokens=20)
    async with talk(engine, stream=True) as answer:
        await answer.content.readline()
        engine.ask_to_end()
        await until(lambda: _unhealthy(client, engine))
        text = await answer.text()
    assert text.endswith("data: [DONE]\n\n")
    assert engine.wait() == 0


async def _unhealthy(client, engine):
    return await status(client, engine) == 503


async def test_idle_connections_do_not_delay_the_end(start, client):
    engine = start()
    assert await status(client, engine) == 200  # the client keeps its connection
    assert engine.stop() == 0


async def test_a_planned_start_keeps_the_port_closed(make, client):
    engine = make(start_s=0.5)
    engine.start()
    assert not await opened(client, engine)
    engine.wait_ready()


async def test_a_start_can_fail_with_a_reason(make):
    engine = make(start_error="torch.OutOfMemoryError: planned by the test")
    engine.start()
    assert engine.wait() == 1
    assert "torch.OutOfMemoryError" in engine.last_lines


async def test_weights_that_are_not_there_end_the_start(tmp_path):
    engine = EngineProcess(tmp_path / "nothing", tmp_path / "log")
    engine.start()
    assert engine.wait() == 1
    assert "Can't load the configuration" in engine.last_lines


async def test_a_taken_port_ends_the_start(make):
    engine = make()
    with socket.create_server(("127.0.0.1", engine.port)):
        engine.start()
        assert engine.wait() == 1
    assert "already in use" in engine.last_lines


async def test_it_can_answer_long_before_it_is_healthy(make, talk, client):
    engine = make(unready_s=3600)
    engine.start()
    await until(lambda: opened(client, engine))
    assert await status(client, engine) == 503
    assert await status(client, engine, "/v1/models") == 200
    async with talk(engine) as answer:
        assert is_whole((await answer.json())["choices"][0]["message"]["content"])
    assert engine.stop() == 0


async def test_a_sick_engine_waits_for_nobody(make, talk, client):
    engine = make(unhealthy=True, token_s=3600)
    engine.start()
    await until(lambda: opened(client, engine))
    async with talk(engine, stream=True) as answer:
        await answer.content.readline()
        assert await status(client, engine, "/health_generate") == 503
        assert engine.stop() == 0


async def test_a_deaf_engine_has_to_be_killed(start, client):
    engine = start(deaf=True)
    engine.ask_to_end()
    assert await status(client, engine) == 200
    engine.kill()
    assert engine.wait() == -signal.SIGKILL


async def test_its_output_shows_the_key_as_sglangs_does(start):
    engine = start()
    assert f"'api_key': '{engine.key}'" in engine.log.read_text()


async def test_a_chat_kills_an_engine_for_embeddings(start, talk):
    engine = start("--is-embedding")
    try:
        async with talk(engine):
            answered = True
    except aiohttp.ClientConnectionError:
        answered = False
    assert not answered
    assert engine.wait() == -signal.SIGKILL
