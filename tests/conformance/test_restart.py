"""What is asked while NATS is restarted, hangs or is away, on a real server."""

import os
import signal
import time

import pytest

from caravan.contracts.errors import UnavailableError
from caravan.kit.bus import Bus
from caravan.kit.restart import over_a_restart
from caravan.testing.wait import until

MOMENT_S = 0.2


class Question:
    """A question to JetStream, and how often it was asked."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self.count = bus, 0

    async def __call__(self):
        self.count += 1
        if not self._bus.connected:
            raise UnavailableError("no connection")
        return await self._bus.js.account_info()


@pytest.fixture
def question(bus):
    return Question(bus)


async def test_a_question_that_can_be_answered_is_asked_once(bus, question):
    await bus.established()

    assert (await over_a_restart(bus, question)).streams == 0
    assert question.count == 1


async def test_where_nats_went_long_ago_nobody_waits(bus, question, nats_server):
    await bus.established()
    await nats_server.stop()
    await until(lambda: not bus.connected and time.monotonic() - bus.lost_at > MOMENT_S)

    with pytest.raises(UnavailableError):
        await over_a_restart(bus, question, patience_s=MOMENT_S)
    assert question.count == 1


async def test_where_nats_was_never_there_nobody_waits(nats_server):
    await nats_server.stop()
    async with Bus(nats_server.url, name="early") as early:
        asked = Question(early)
        with pytest.raises(UnavailableError):
            await over_a_restart(early, asked)
    assert asked.count == 1


async def test_a_nats_that_hangs_is_waited_for_so_long_and_no_longer(bus, question, nats_server):
    await bus.established()
    os.kill(nats_server.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(UnavailableError, match="NATS does not answer"):
            await over_a_restart(bus, question, patience_s=MOMENT_S)
    finally:
        os.kill(nats_server.pid, signal.SIGCONT)
    assert time.monotonic() - began >= MOMENT_S
    assert question.count == 1
