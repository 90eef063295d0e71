"""The loop that probes what is ejected, against real sockets."""

import asyncio
import contextlib

import pytest
import structlog
from msgspec.structs import replace

from caravan.contracts.instances import Record
from caravan.testing.wait import until
from services.router.adapters import probe
from services.router.adapters.probe import HealthProber
from services.router.core.outliers import Outliers
from services.router.loops.probe import AT_ONCE, Probes
from tests.integration.router.engine import Engine

DEPLOYMENT = "u-8105f7322477.test"
ONE = f"{DEPLOYMENT}.i-aaaaaa"
RECORD = Record(incarnation="first", term=1, generation=1, state="ready", engine_key="ek-1")


def answering(status):
    async def script(_, connection):
        await connection.answer({}, status)

    return script


class Place:
    """One deployment's records, the probes of its instances, and a clock that tests set."""

    def __init__(self, prober=None):
        self.instances, self.changed, self.now = {}, [], 0.0
        self.outliers = Outliers()
        self.probes = Probes(
            self.outliers,
            self,
            prober or HealthProber(),
            self.changed.append,
            steady=lambda: self.now,
        )

    def records(self, deployment):
        return self.instances if deployment == DEPLOYMENT else {}

    def eject(self, instance=ONE):
        for _ in range(3):
            self.outliers.failed(
                instance,
                self.now,
                connection=True,
                why="no connection in time",
                life=RECORD.incarnation,
            )
        assert self.outliers.ejected(instance)

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.probes.repeat())
        try:
            with structlog.testing.capture_logs() as lines:
                yield lines
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def place():
    return Place()


def told(lines):
    return [(line["event"], line["log_level"], line["instance"], line["why"]) for line in lines]


async def test_an_ejected_one_heals_when_its_engine_says_so(place, engine):
    engine.health = answering(200)
    place.instances["i-aaaaaa"] = replace(RECORD, url=engine.url)
    place.eject()
    async with place.running() as lines:
        await until(lambda: lines)
        assert engine.probes == []  # not due yet
        place.now = 1.0
        await until(lambda: len(lines) == 2)

    assert place.changed == [ONE]
    assert not place.outliers.ejected(ONE)
    assert told(lines) == [
        ("instance.ejected", "warning", ONE, "no connection in time"),
        ("instance.healed", "info", ONE, "it answered a probe"),
    ]
    [asked] = engine.probes
    assert (asked.method, asked.path) == ("GET", "/health")
    assert asked.headers["authorization"] == "Bearer ek-1"


async def test_it_is_probed_ever_more_seldom_while_the_engine_is_ill(place, engine):
    engine.health = answering(503)
    place.instances["i-aaaaaa"] = replace(RECORD, url=engine.url)
    place.eject()
    async with place.running() as lines:
        for number, due in enumerate((1.0, 3.0, 7.0), start=1):
            assert place.outliers.due(due - 0.1) == []
            place.now = due
            await until(lambda number=number: len(engine.probes) == number)
            await until(lambda: not place.outliers.due(place.now))

    assert place.outliers.ejected(ONE)
    assert place.changed == []
    assert [line["event"] for line in lines] == ["instance.ejected"]  # once, not per probe


async def test_one_that_refused_connections_heals_when_it_listens_again(place, free_port):
    place.instances["i-aaaaaa"] = replace(RECORD, url=f"http://127.0.0.1:{free_port}")
    place.eject()
    async with place.running():
        place.now = 1.0
        await until(lambda: not place.outliers.due(place.now))
        assert place.outliers.ejected(ONE)
        async with Engine() as engine:
            place.instances["i-aaaaaa"] = replace(RECORD, url=engine.url)
            place.now = 3.0
            await until(lambda: not place.outliers.ejected(ONE))


async def test_a_probe_that_hangs_holds_up_no_other(place, engine, other):
    hanging = asyncio.Event()

    async def hangs(_, connection):
        hanging.set()
        await connection.gone.wait()

    engine.health, other.health = hangs, answering(200)
    two = f"{DEPLOYMENT}.i-bbbbbb"
    place.instances["i-aaaaaa"] = replace(RECORD, url=engine.url)
    place.eject()
    async with place.running():
        place.now = 1.0
        await hanging.wait()
        place.instances["i-bbbbbb"] = replace(RECORD, url=other.url)
        place.eject(two)
        place.now = 2.0
        await until(lambda: not place.outliers.ejected(two))
        assert place.outliers.ejected(ONE)
        assert len(engine.probes) == 1  # it is not probed again meanwhile


async def test_a_probe_of_an_address_that_is_no_longer_its_own_says_nothing(place, engine, other):
    asked, go = asyncio.Event(), asyncio.Event()

    async def late(_, connection):
        asked.set()
        await go.wait()
        await connection.answer({})

    engine.health, other.health = late, answering(503)
    place.instances["i-aaaaaa"] = replace(RECORD, url=engine.url)
    place.eject()
    async with place.running():
        place.now = 1.0
        await asked.wait()
        place.instances["i-aaaaaa"] = replace(RECORD, url=other.url)
        go.set()
        await until(lambda: other.probes)
        assert place.outliers.ejected(ONE)


async def test_another_life_of_an_instance_bears_nothing_of_the_one_before(place):
    place.instances["i-aaaaaa"] = RECORD
    place.eject()
    async with place.running() as lines:
        await until(lambda: lines)
        assert place.outliers.ejected(ONE)
        place.instances["i-aaaaaa"] = replace(RECORD, incarnation="second", term=2)
        await until(lambda: not place.outliers.ejected(ONE))

    assert place.changed == [ONE]


async def test_what_is_held_against_an_instance_that_is_gone_is_dropped(place):
    """Requests that were under way there end after its record went."""
    place.outliers.failed(ONE, 0.0)
    async with place.running():
        await until(lambda: not place.outliers.seen())

    assert place.changed == []


async def test_not_all_of_a_cluster_are_probed_at_once():
    class Counting:
        running, most, free = 0, 0, asyncio.Event()

        async def probe(self, _):
            self.running += 1
            self.most = max(self.most, self.running)
            await self.free.wait()
            self.running -= 1
            return True

    prober = Counting()
    place = Place(prober)
    names = [f"i-{number:06d}" for number in range(AT_ONCE * 2 + 1)]
    for name in names:
        place.instances[name] = RECORD
        place.eject(f"{DEPLOYMENT}.{name}")
    async with place.running():
        place.now = 1.0
        await until(lambda: prober.running == AT_ONCE)
        for _ in range(2):  # until it has looked again, whole
            place.outliers.failed("gone", 0.0)
            await until(lambda: "gone" not in place.outliers.seen())
        prober.free.set()
        await until(lambda: len(place.changed) == len(names))

    assert prober.most == AT_ONCE


@pytest.mark.parametrize(("status", "well"), [(200, True), (204, True), (301, False), (401, False)])
async def test_only_a_2xx_is_well(engine, status, well):
    engine.health = answering(status)
    assert await HealthProber().probe(replace(RECORD, url=engine.url)) is well


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"x" * 100_000, b"HTTP/1.1 20"])
async def test_what_speaks_no_http_is_not_well(engine, said):
    async def script(_, connection):
        await connection.raw(said)
        connection.writer.close()

    engine.health = script
    assert not await HealthProber().probe(replace(RECORD, url=engine.url))


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:99999", "http://[", "no.such.host.invalid"])
async def test_an_address_that_leads_nowhere_is_not_well(url):
    assert not await HealthProber().probe(replace(RECORD, url=url))


async def test_an_engine_that_says_nothing_is_left_in_bounded_time(engine, monkeypatch):
    monkeypatch.setattr(probe, "PATIENCE_S", 0.05)
    left = asyncio.Event()

    async def silent(_, connection):
        await connection.gone.wait()
        left.set()

    engine.health = silent
    assert not await HealthProber().probe(replace(RECORD, url=engine.url))
    await left.wait()
