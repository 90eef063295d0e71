"""One life of a consumer: it ends rather than pass over anything."""

import asyncio

import pytest
from nats.aio.msg import Msg

from caravan.contracts import topology
from caravan.kit.reading import Heard, Reading
from caravan.testing.wait import until


def message(number, *, revision=None, pending=0, key="t.a", headers=None, domain=""):
    """A message as the server sends it to a push consumer."""
    revision = revision or number
    middle = f"{domain}.account." if domain else ""
    end = ".random" if domain else ""
    reply = f"$JS.ACK.{middle}KV_deployments.name.1.{revision}.{number}.1764085000.{pending}{end}"
    return Msg(None, f"$KV.deployments.{key}", reply, b"data", headers)


def heartbeat(number, **headers):
    status = {"Status": "100", "Nats-Last-Consumer": str(number), **headers}
    return Msg(None, "inbox", "", b"", status)


@pytest.fixture
def one(bus):
    return Reading(bus, topology.DEPLOYMENTS, heartbeat_s=60.0)


async def listen(one):
    """Return all that is heard until the reading breaks off."""
    async with asyncio.timeout(60):
        return [heard async for heard in one]


async def test_messages_are_heard_in_order_until_one_is_missing(one):
    for sent in (message(1, revision=4, pending=2), message(2, revision=9), message(4)):
        await one.take(sent)

    assert await listen(one) == [
        Heard("t.a", b"data", gone=False, revision=4, stamp=1764085000, pending=2),
        Heard("t.a", b"data", gone=False, revision=9, stamp=1764085000, pending=0),
    ]
    assert one.why == "message 3 is missing"


@pytest.mark.parametrize("domain", ["", "hub"])
async def test_numbers_are_read_from_either_form_of_the_reply(one, domain):
    await one.take(message(1, revision=7, pending=3, domain=domain))
    one.break_off("enough")

    (heard,) = await listen(one)

    assert (heard.revision, heard.stamp, heard.pending) == (7, 1764085000, 3)


@pytest.mark.parametrize(
    "headers",
    [{"KV-Operation": "DEL"}, {"KV-Operation": "PURGE"}, {"Nats-Marker-Reason": "MaxAge"}],
)
async def test_deletion_and_expiry_are_told_from_values(one, headers):
    await one.take(message(1, headers=headers))
    await one.take(message(2, headers={"Some": "header"}))
    one.break_off("enough")

    assert [heard.gone for heard in await listen(one)] == [True, False]


async def test_a_heartbeat_that_tells_of_an_unheard_message_ends_the_reading(one):
    await one.take(message(1))
    await one.take(heartbeat(2))

    assert len(await listen(one)) == 1
    assert one.why == "message 2 is missing"


async def test_a_heartbeat_that_tells_of_nothing_new_says_that_nothing_is_missing(one):
    beats = []
    one.heartbeat = lambda: beats.append("heard")
    await one.take(message(1))
    await one.take(heartbeat(1))
    one.break_off("enough")

    await listen(one)

    assert beats == ["heard"]


@pytest.mark.parametrize(
    "control",
    [
        Msg(None, "inbox", "flow.reply", b"", {"Status": "100"}),
        heartbeat(0, **{"Nats-Consumer-Stalled": "flow.reply"}),
    ],
    ids=["request", "stalled"],
)
async def test_the_server_is_told_to_go_on(one, bus, control):
    """Flow control: without an answer it would send nothing more."""
    answered = []

    async def answer(message):
        answered.append(message.subject)

    await bus.client.subscribe("flow.reply", cb=answer)
    await one.take(control)
    one.break_off("enough")

    await listen(one)

    await until(lambda: answered == ["flow.reply"])


async def test_silence_ends_the_reading(bus):
    one = Reading(bus, topology.DEPLOYMENTS, heartbeat_s=-0.49)
    one.watch()

    assert await listen(one) == []
    assert "nothing heard" in one.why
