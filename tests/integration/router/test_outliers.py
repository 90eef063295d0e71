"""An instance that fails again and again is used last, until it is well."""

import asyncio

import pytest
import structlog

from tests.integration.router.engine import Engine, polite, token
from tests.integration.router.world import MODEL, body, eventually

KEY = f"{MODEL.replace('/', '.')}.i-aaaaaa"


class Patient:
    """Makes ``engine`` answer requests with ``status`` and probes with 503, until it is cured."""

    def __init__(self, engine, status=500):
        self.status, self.works, self.says_so = status, False, False
        self.asked, self.probed = 0, asyncio.Event()
        engine.script, engine.health = self.answer, self.health

    def cure(self):
        self.works = self.says_so = True

    async def health(self, _, connection):
        await connection.answer({}, 200 if self.says_so else 503)
        self.probed.set()

    async def answer(self, request, connection):
        self.asked += 1
        await (polite if self.works else self.fail)(request, connection)

    async def fail(self, _, connection):
        await connection.answer({"message": "it broke"}, self.status)


class Breaking(Patient):
    """One whose answers break after their first token."""

    async def fail(self, _, connection):
        await connection.begin()
        await connection.chunk(token("hel"))
        connection.reset()


@pytest.fixture
def patient(engine):
    """The first engine, ill."""
    return Patient(engine)


async def held(world, key=KEY):
    """Return what the router says that it holds against an instance."""
    use = (await world.report()).instances.get(key)
    return (use.ejected, use.failures) if use is not None else (False, 0)


async def ask_until(world, condition, **more):
    """Send requests one after the other until ``condition()`` is true."""

    async def asked():
        async with world.post(body(**more)) as response:
            await response.read()
        return condition()

    await eventually(asked)


async def ejected(world, key=KEY):
    async def is_ejected():
        return (await held(world, key))[0]

    await eventually(is_ejected, "the ejection")


async def healed(world, key=KEY):
    async def is_healed():
        return await held(world, key) == (False, 0)

    await eventually(is_healed, "the healing")


async def served_by(world, count=20):
    """Return which instances answer ``count`` requests, all of them well."""
    names = set()
    for _ in range(count):
        status, headers, _ = await world.asked(body())
        assert status == 200
        names.add(headers["x-caravan-instance"])
    return names


async def test_after_five_500s_the_others_get_the_traffic_until_it_is_well(
    world, engine, patient, other
):
    await world.serving(engine, other)
    await ask_until(world, lambda: patient.asked == 5)
    await ejected(world)

    assert await served_by(world) == {"i-bbbbbb"}
    assert patient.asked == 5

    await asyncio.wait_for(patient.probed.wait(), 60)
    assert await served_by(world) == {"i-bbbbbb"}  # its probe said no
    patient.cure()
    await healed(world)
    await ask_until(world, lambda: patient.asked > 5)


@pytest.mark.parametrize("status", [502, 504])
async def test_a_gateways_refusals_count_as_well(world, engine, other, status):
    patient = Patient(engine, status)
    await world.serving(engine, other)
    await ask_until(world, lambda: patient.asked == 5)
    await ejected(world)


@pytest.mark.parametrize("stream", [True, False])
async def test_answers_that_break_count(world, engine, stream):
    patient = Breaking(engine)
    await world.serving(engine)
    await ask_until(world, lambda: patient.asked >= 5, stream=stream)
    await ejected(world)


@pytest.mark.parametrize("status", [400, 404, 413, 422, 429, 503])
async def test_what_the_client_did_and_what_is_full_is_held_against_nobody(world, engine, status):
    patient = Patient(engine, status)
    await world.serving(engine)
    await ask_until(world, lambda: patient.asked >= 12)

    assert await held(world) == (False, 0)


async def test_one_that_cannot_be_reached_is_ejected_after_three_and_heals_when_it_listens(
    world, engine, other
):
    async with Engine() as dead:
        pass
    await world.serving(dead, other)

    async def lost():
        assert await served_by(world, 1) == {"i-bbbbbb"}  # the client sees nothing of it
        return await held(world) == (True, 3)

    await eventually(lost)
    await world.record("i-aaaaaa", engine.url)
    await healed(world)

    async def serves():
        return "i-aaaaaa" in await served_by(world, 1)

    await eventually(serves)


async def test_where_all_are_ejected_all_are_used_and_a_good_answer_heals(world, engine, patient):
    await world.serving(engine)
    await ask_until(world, lambda: patient.asked >= 5)
    await ejected(world)
    patient.works = True
    assert (await world.asked(body()))[0] == 200

    assert await held(world) == (False, 0)


async def test_a_good_answer_between_failures_begins_the_count_anew(world, engine, patient):
    await world.serving(engine)
    for _ in range(3):
        await ask_until(world, lambda asked=patient.asked: patient.asked == asked + 4)
        patient.works = True
        assert (await world.asked(body()))[0] == 200
        patient.works = False

    assert await held(world) == (False, 0)


async def test_another_life_of_an_instance_is_not_blamed_for_the_one_before(
    world, engine, patient, other
):
    await world.serving(engine, other)
    await ask_until(world, lambda: patient.asked == 5)
    await ejected(world)

    await world.record("i-aaaaaa", engine.url, incarnation="another", term=2)

    await healed(world)


async def test_nats_is_needed_neither_to_eject_nor_to_heal(
    world, engine, patient, other, nats_server
):
    await world.serving(engine, other)
    await nats_server.stop()
    await ask_until(world, lambda: patient.asked == 5)
    assert await served_by(world) == {"i-bbbbbb"}

    patient.cure()

    async def serves():
        return "i-aaaaaa" in await served_by(world, 1)

    await eventually(serves)


async def test_it_is_told_once_that_it_is_ejected_and_once_that_it_has_healed(
    world, engine, patient, other
):
    with structlog.testing.capture_logs() as lines:
        await world.serving(engine, other)
        await ask_until(world, lambda: patient.asked == 5)
        await asyncio.wait_for(patient.probed.wait(), 60)
        patient.cure()
        await healed(world)

        def told():
            return [one for one in lines if one.get("instance") == KEY]

        async def both():
            return len(told()) == 2

        await eventually(both)

    out, well = told()
    assert (out["event"], out["log_level"]) == ("instance.ejected", "warning")
    assert "500" in out["why"]
    assert (well["event"], well["log_level"]) == ("instance.healed", "info")
