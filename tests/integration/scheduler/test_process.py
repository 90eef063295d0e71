"""The scheduler as the process that it is: its settings, its end, its own database taken over."""

import asyncio
import os
import signal
import sys

import aiohttp
import pytest

from caravan.contracts import topology
from caravan.testing.nats import free_port
from tests.integration.scheduler.conftest import until


class Service:
    """``python -m services.scheduler``, on a port of its own."""

    def __init__(self, **settings):
        self.port = free_port()
        self._environ = {f"SCHEDULER_{k.upper()}": str(v) for k, v in settings.items()}

    async def __aenter__(self):
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "services.scheduler"),
            env={**os.environ, "SCHEDULER_PORT": str(self.port), **self._environ},
            stderr=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(self, *_):
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.process._transport.close()

    async def ended(self):
        """Return exit status and what was said on stderr."""
        _, said = await asyncio.wait_for(self.process.communicate(), 60)
        return self.process.returncode, said.decode()

    async def ready(self):
        """Return status and body of ``/ready``; None while nobody listens."""
        url = f"http://127.0.0.1:{self.port}/ready"
        try:
            async with aiohttp.ClientSession() as client, client.get(url) as answer:
                return answer.status, await answer.json()
        except aiohttp.ClientError:
            return None


@pytest.fixture
def settings(nats_server, new_database, tmp_path):
    return {
        "nats_url": nats_server.url,
        "database_url": new_database(),
        "instances_dir": tmp_path / "instances",
        "engine_command": "true",
        "engine_kind": "fake",
        "log_form": "json",
    }


async def test_it_answers_until_it_is_told_to_end(settings, operator):
    async with Service(**settings) as service:
        await until(lambda: is_ready(service))
        assert (await operator.list()).items == []
        service.process.send_signal(signal.SIGTERM)
        status, said = await service.ended()
    assert status == 0
    assert "Traceback" not in said


async def is_ready(service):
    answer = await service.ready()
    return answer is not None and answer[0] == 200


async def test_without_nats_it_waits_and_says_so(settings, nats_server):
    await nats_server.stop()
    async with Service(**settings) as service:
        status, problem = await until(service.ready)
        assert (status, problem["code"]) == (503, "unavailable")
        assert "NATS" in problem["message"]
        await nats_server.start()
        await until(lambda: is_ready(service))


async def test_a_second_one_waits_for_the_first(settings, operator):
    async with Service(**settings) as first:
        await until(lambda: is_ready(first))
        async with Service(**settings) as second:
            status, _ = await until(second.ready)
            assert status == 503
            first.process.kill()
            await first.process.wait()
            await until(lambda: is_ready(second))
            await until(lambda: answers(operator))


async def answers(operator):
    return (await operator.list()).hold == ""


@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        ({"cluster": "borg"}, 2, "use process or nomad"),
        ({"database_url": "mysql://x"}, 2, "database URL"),
        ({"worker_environment": "x"}, 2, "NAME=value"),
        ({"port": "many"}, 2, "SCHEDULER_PORT"),
    ],
)
async def test_a_wrong_setting_is_one_line_and_a_status(settings, wrong, status, words):
    async with Service(**{**settings, **wrong}) as service:
        ended, said = await service.ended()
    assert ended == status
    assert words in said
    assert "Traceback" not in said


async def test_a_released_database_of_another_installation_goes_on_in_the_same_process(
    settings, new_database, operator
):
    async with Service(**settings) as service:
        await until(lambda: is_ready(service))
        await operator.change(topology.HOLD_SCHEDULER, "")
        await operator.change(topology.HOLD_SCHEDULER, "", release=True)
        await until(lambda: answers(operator))
    async with Service(**{**settings, "database_url": new_database()}) as service:
        await until(lambda: is_ready(service))
        assert "caravan hold --release" in (await operator.list()).hold
        await operator.change(topology.HOLD_SCHEDULER, "", release=True)
        await until(lambda: answers(operator))
        assert service.process.returncode is None
